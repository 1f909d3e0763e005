"""The record of the loop. Rows are written by the verbs of ``research``, never by a view.

Reading order: Campaign -> Program -> Incumbent -> Turn -> Wave -> Proposal -> Revision -> Gate -> Decision -> Run ->
ReportBatch -> Score -> Verdict -> Finding; beside them Worker, Manifest (a dataset's), LedgerEntry and Event, and
Import -> PastExperiment.

Missing numbers are NULL, never 0.
"""

from research.models.campaign import Campaign, Incumbent, Program, Turn
from research.models.dataset import Manifest
from research.models.history import Import, PastExperiment
from research.models.proposal import Decision, Gate, Proposal, Revision, Wave
from research.models.record import AuditHead, Event, LedgerEntry
from research.models.run import ReportBatch, Run, Score, Worker
from research.models.verdict import Finding, Note, Verdict
