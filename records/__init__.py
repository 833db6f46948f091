"""What a run leaves on disk, said once: its events, its final fits, its tables and their names.

Nothing outside this room spells a key of an event, of a trial's report or of a final fit's file,
or a column of a table. It needs neither Ray nor torch.
"""

from records.cell import Cell
from records.encoding import decode, encode, keys
from records.events import (
    Event,
    FinalFitFailed,
    Footnote,
    ImagesRead,
    Kind,
    Nodes,
    NodeView,
    PrecisionChosen,
    RunFinished,
    RunStarted,
    SearchClosed,
    StageEnded,
    TrialEnded,
    TrialEvent,
    TrialPaused,
    TrialPromoted,
    TrialReport,
    TrialReported,
    TrialStarted,
    Winner,
)
from records.journal import JournalWriter, holds_run, journal_line, parse_journal, read_journal

__all__ = [
    "Cell",
    "Event",
    "FinalFitFailed",
    "Footnote",
    "ImagesRead",
    "JournalWriter",
    "Kind",
    "NodeView",
    "Nodes",
    "PrecisionChosen",
    "RunFinished",
    "RunStarted",
    "SearchClosed",
    "StageEnded",
    "TrialEnded",
    "TrialEvent",
    "TrialPaused",
    "TrialPromoted",
    "TrialReport",
    "TrialReported",
    "TrialStarted",
    "Winner",
    "decode",
    "encode",
    "holds_run",
    "journal_line",
    "keys",
    "parse_journal",
    "read_journal",
]
