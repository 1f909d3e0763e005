"""Commit, then challenge: a model's losses over held-out rows, compared with those of fresh processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpu_runner.data.tokens import TokenArray
from gpu_runner.scorer.challenge import Challenged, Held, Nats, Plan, challenge
from gpu_runner.scorer.effort import Stages
from gpu_runner.scorer.frames import Logits, Tokens
from gpu_runner.scorer.model_process import Batch, ModelFailed, ModelProcess
from gpu_runner.scorer.suspicion import expected, weigh

# Largest difference, in nats at one position, between two answers to the same prefix. On a CPU the
# same shapes give the same bits (facts: 0.0 in float32 and bfloat16); a GPU may choose another kernel.
TOLERANCE_NATS = {"cpu": 1e-4, "cuda": 5e-2}
NUM_REPEATS, MAX_COMMITMENTS = 2, 2


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Held-out text cut into rows: the model's inputs and their targets, both [N, T] int32."""

    inputs: Tokens
    targets: Tokens
    per_batch: int  # rows of one request


class Examination:
    """Commits the model's losses, challenges them, and repeats what differs before the score is disputed.

    Seen on a CPU: about one process in fifty rounds bfloat16 another way all its life, by up to 0.15 in a logit. So the
    questions of a process that disagrees are asked of two fresh ones, and it is forgotten only if both agree with the
    commitment. One is not enough: a cheat that guesses the withheld text at random is right now and then. When a repeat
    disagrees, the commitment itself may be the odd one: it is made anew, once, and everything found so far is
    forgotten, so that it stands or falls by all of its own challenges. The first of these are those at which the old
    one fell: a cheat that peeks at few places must not get new questions that may miss them.
    """

    def __init__(self, start: Callable[[], ModelProcess], rows: Rows, foreign: TokenArray, vocab: int) -> None:
        self.start, self.rows, self.foreign, self.vocab = start, rows, foreign, vocab
        self.num_repeats = self.num_commitments = 0
        self.found = Challenged()
        self.stages = list[Stages]()  # of every process
        self.commit()

    def commit(self) -> None:
        with self.start() as model:
            self.about = model.about
            before = model.holdings_sha256()
            self.nats = self._losses(model)
            self.held = Held(before, model.holdings_sha256())
            self.stages.append(model.stages)
        # From here on the losses are committed. All further answers are from fresh processes that saw none of it.
        self.num_commitments += 1
        # Rounding changes no parameter, so a process whose parameters changed stays counted.
        self.found = Challenged(num_processes=self.found.num_processes, num_changed=self.found.num_changed)
        self.found.note(self.held, self.held)

    def challenge(self, num_wanted: int) -> None:
        """Challenge in as many processes as it takes, until there are ``num_wanted`` answers."""
        tolerance = TOLERANCE_NATS[str(self.about["device"])]
        is_lost, plan = False, None
        while len(self.found) < num_wanted:
            plan = plan or self._plan(num_wanted - len(self.found))
            answer = self._answer(plan)
            if answer.disagrees(tolerance) and not is_lost:
                answer = self._repeated(plan, answer)
            is_lost = is_lost or answer.disagrees(tolerance)
            if is_lost and self.num_commitments < MAX_COMMITMENTS:
                self.found.forgive(answer)
                self.commit()
                is_lost = False  # ``plan`` stays: the same questions are asked again
            else:
                self.found.add(answer)
                plan = None

    def _repeated(self, plan: Plan, answer: Challenged) -> Challenged:
        """Ask the same of NUM_REPEATS fresh processes: the last answer if all agree, else the first that disagrees."""
        tolerance = TOLERANCE_NATS[str(self.about["device"])]
        for _ in range(NUM_REPEATS):
            self.num_repeats += 1
            self.found.forgive(answer)
            answer = self._answer(plan)
            if answer.disagrees(tolerance):
                break
        return answer

    def _plan(self, num_wanted: int) -> Plan:
        rng = np.random.default_rng()  # seeded by the system: what is asked must not be guessable
        inputs, targets = self.rows.inputs, self.rows.targets
        weights = weigh(self.nats, expected(self.foreign, inputs, targets, self.vocab, rng))
        return challenge(inputs, self.rows.per_batch, num_wanted, self.foreign, weights, rng)

    def _losses(self, model: ModelProcess) -> Nats:
        """Losses of all rows, [N, T] in nats."""
        inputs, targets = self.rows.inputs, self.rows.targets
        return ask(model, inputs, np.zeros(len(inputs), np.int64), targets, self.rows.per_batch)

    def _answer(self, plan: Plan) -> Challenged:
        targets = self.rows.targets[plan.rows[:, None], plan.positions]
        with self.start() as model:
            before = model.holdings_sha256()
            # A round is asked when the one before is answered: it may show what stood behind its prefixes.
            rounds = np.split(np.arange(len(plan.rows)), plan.num_rounds)
            parts = [ask(model, plan.inputs[r], plan.first[r], targets[r], self.rows.per_batch) for r in rounds]
            held = Held(before, model.holdings_sha256())
            self.stages.append(model.stages)
            self.about = self.about if model.about == self.about else self.about | {"torch": "another one each time"}
        answer = Challenged()
        answer.compare(plan, self.nats, np.concatenate(parts))
        answer.note(held, self.held)
        return answer


def ask(model: ModelProcess, inputs: Tokens, first: npt.NDArray[np.int64], targets: Tokens, per_batch: int) -> Nats:
    """Negative log-likelihood, in nats, of targets [N, W] in rows [N, T], from position first [N] on."""
    nats, flat, done = np.empty(targets.size), targets.ravel(), 0
    num_batches, wanted = len(inputs) // per_batch, targets.shape[1]
    parts = zip(np.split(inputs, num_batches), np.split(first, num_batches), strict=True)
    for logits in model.ask([Batch(tokens, start, wanted) for tokens, start in parts]):
        here = slice(done, done + len(logits))
        nats[here] = nats_of(logits, flat[here])
        done = here.stop
    return nats.reshape(targets.shape)


def nats_of(logits: Logits, targets: Tokens) -> Nats:
    """Negative log-likelihood per position. logits [n, V], targets [n] -> [n]. ModelFailed if not finite."""
    if not np.isfinite(logits).all():
        raise ModelFailed(
            "The model gave logits that are not finite. Give a token that cannot come a large negative one, not -inf."
        )
    with np.errstate(over="ignore"):
        shifted = logits - logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(shifted, targets[..., None], axis=-1)[..., 0]
    np.exp(shifted, out=shifted)
    nats: Nats = np.log(shifted.sum(axis=-1, dtype=np.float64)) - picked
    if not np.isfinite(nats).all():
        raise ModelFailed("The model gave logits so far apart that a loss is infinite.")
    return nats
