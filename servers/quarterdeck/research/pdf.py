"""The text of a PDF. Run it where time and memory are bounded (`apart`): such files are made to break their readers."""

from __future__ import annotations

MOST_PAGES = 100
MOST_TEXT = 400_000


def read(body: bytes) -> dict[str, object]:
    """Title, text, pages, pages read, and date; or the problem."""
    import io
    import logging

    import pypdf
    from pypdf.errors import PyPdfError

    logging.disable(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(io.BytesIO(body))
        if reader.is_encrypted and not reader.decrypt(""):
            return {"problem": "it is locked with a password"}
        texts: list[str] = []
        size = read = 0
        for page in reader.pages[:MOST_PAGES]:
            text = page.extract_text() or ""
            read += 1
            texts.append(text[: MOST_TEXT - size])
            size += len(text)
            if size >= MOST_TEXT:
                break
        about = reader.metadata
        title = str(about.title or "")[:300] if about else ""
        made = about.modification_date or about.creation_date if about else None
        return {
            "title": title,
            "text": "\n\n".join(texts).strip(),
            "pages": len(reader.pages),
            "read": read,
            "published": made.date().isoformat() if made else None,
        }
    except MemoryError:
        return {"problem": "it needs more memory than is given to one"}
    except (PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OSError) as error:
        return {"problem": f"it is damaged ({type(error).__name__})"}
