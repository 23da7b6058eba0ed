"""Which search providers the settings make ready, without opening anything: for the doctor."""

from __future__ import annotations

from quarterdeck.keel.settings import Settings
from quarterdeck.research.corpus import folders_of, missing_folder
from quarterdeck.research.web import APIS


def why_not(settings: Settings) -> dict[str, str]:
    """Provider → why it cannot be asked; empty when it can."""
    web = {name: api(settings.research).why_not for name, api in APIS.items()}
    return {"corpus": missing_folder(folders_of(settings), named=bool(settings.research.corpus)), **web}
