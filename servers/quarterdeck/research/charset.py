"""From bytes to text, whatever their sender says about them."""

from __future__ import annotations

import codecs
import re

# Labels as pages write them → Python's codec; the larger of two sets where browsers take it too.
_LABELS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
    "iso-8859-2": "iso8859-2",
    "windows-1250": "cp1250",
    "iso-8859-15": "iso8859-15",
    "windows-1251": "cp1251",
    "koi8-r": "koi8-r",
    "windows-1253": "cp1253",
    "iso-8859-7": "iso8859-7",
    "windows-1254": "cp1254",
    "iso-8859-9": "cp1254",
    "windows-1255": "cp1255",
    "windows-1256": "cp1256",
    "euc-kr": "cp949",
    "cp949": "cp949",
    "uhc": "cp949",
    "ms949": "cp949",
    "ks_c_5601-1987": "cp949",
    "ksc5601": "cp949",
    "windows-949": "cp949",
    "x-windows-949": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "windows-31j": "cp932",
    "euc-jp": "euc-jp",
    "iso-2022-jp": "iso2022-jp",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"""<meta[^>]{0,300}?charset\s{0,4}=\s{0,4}["']?\s{0,4}([\w.:-]{1,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s{0,20}<\?xml[^>]{0,200}?encoding\s{0,4}=\s{0,4}["']([\w.:-]{1,40})""", re.IGNORECASE)
_HEADER = re.compile(r"charset\s{0,4}=\s{0,4}[\"']?([\w.:-]{1,40})", re.IGNORECASE)


def decode(body: bytes, content_type: str = "") -> str:
    """The text. A byte order mark is believed first, then the header, then the page itself; what does not fit is
    tried as UTF-8 and as Korean, and in the end letters that nobody can read are replaced."""
    for mark, marked in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(marked, "replace")
    start = body[:4096]
    labels = [match.group(1) for match in [_HEADER.search(content_type)] if match]
    labels += [
        match.group(1).decode("ascii", "replace") for match in (_META.search(start), _XML.search(start)) if match
    ]
    declared = [codec for label in labels if (codec := _LABELS.get(label.lower())) is not None]
    # A page that we could search for its charset is not UTF-16, whatever it says.
    if labels and len(labels) > 1:
        declared = [codec for codec in declared if not codec.startswith("utf-16")] or declared
    # Every byte is a letter in a one-byte set: what is right UTF-8 and not plain ASCII is UTF-8.
    tries = ["utf-8", *declared] if declared[:1] and declared[0].startswith(("cp125", "iso8859", "koi8")) else declared
    for codec in dict.fromkeys([*tries, "utf-8", "cp949"]):
        try:
            return body.decode(codec)
        except UnicodeDecodeError:
            continue
    # Where much is readable in the declared set, the rest is damage; where not, the label was wrong.
    texts = [body.decode(codec, "replace") for codec in dict.fromkeys([*declared, "utf-8", "cp949", "cp1252"])]
    if declared and texts[0].count("�") * 50 <= len(texts[0]):
        return texts[0]
    return min(texts, key=lambda text: text.count("�"))
