"""Self-critical training: the reward, and a whole step.

The reward is compared with pycocoevalcap's scorer on the same batch, given the captions as tokens
and the document frequencies of all training clips; ours must also find the tokens. The step, at the
paper's sizes (SJTU Table 1: BiGRU 3 × 256, Transformer 2 × 256, 64 clips), is compared with one
that samples a clip at a time, and reads every prefix again. Weights are random, so almost all
captions have the greatest length. The second is timed on some clips, and its time is scaled to all
clips.

Run it as ``python -m benchmarks.scst``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pycocoevalcap.cider.cider_scorer import CiderScorer
from torch import Tensor

from benchmarks.timing import Row, compare, print_table
from pipeline.config.plans import CaptionerPlan, FinetuningPlan
from pipeline.config.seq2seq import Seq2SeqConfig, Seq2SeqModelConfig
from pipeline.config.tokens import WordsConfig
from pipeline.config.training import ScstConfig, TrainingConfig
from pipeline.losses.policy import advantages, self_critical_loss, token_log_probs
from pipeline.metrics.rewards import END, Reward
from pipeline.models.captioners.base import Inputs
from pipeline.tensors import Batch, Memory, Padded, TokenIds
from pipeline.text.vocabulary import SPECIALS, Vocabulary
from pipeline.trained.captioner import TrainedCaptioner, planned_captioner
from pipeline.training.self_critical import SelfCritical

CLIPS, REFERENCES, CORPUS = 64, 5, 1000
FRAMES, WIDTH = 32, 512
LETTERS = "abcdefghij"
WORDS = [f"{x}{y}{z}" for x in LETTERS for y in LETTERS for z in LETTERS]
TOKENIZER = Vocabulary([*SPECIALS, *WORDS])
TARGET = 5.0


def main() -> None:
    """Prints the rows, and the step's clips per second; half a minute on one core."""
    torch.set_num_threads(1)
    print_table(measure("cuda" if torch.cuda.is_available() else "cpu"))


def measure(device: str) -> list[Row]:
    """All rows; the reward is always computed on the CPU."""
    draw = random.Random(1)
    corpus = [[caption(draw) for _ in range(REFERENCES)] for _ in range(CORPUS)]
    rows = [reward_row(draw, corpus, hypotheses=6)]
    for samples in (1, 5):
        row = step_row(corpus, samples, torch.device(device))
        rows.append(row)
        ours, theirs = CLIPS / row.fast, CLIPS / row.slow
        print(f"{row.name}: {ours:.1f} clips per second, a clip at a time {theirs:.1f}")
    return rows


def caption(draw: random.Random) -> str:
    """Words as captions have them: a few are very common."""
    picked = [WORDS[int(draw.paretovariate(0.6)) % len(WORDS)] for _ in range(draw.randint(6, 16))]
    return " ".join(picked)


class WholeCorpus(CiderScorer):
    """pycocoevalcap's scorer, with given document frequencies."""

    frequency: Any = None
    ref_len = property(lambda self: np.log(float(CORPUS)), lambda self, value: None)

    def scores(self) -> list[float]:
        self.document_frequency = self.frequency
        return self.compute_cider()


def count(corpus: Sequence[Sequence[str]]) -> Any:
    """The document frequencies of all clips."""
    counter = CiderScorer()
    for row in corpus:
        counter += ("", [f"{text} {END}" for text in row])
    counter.compute_doc_freq()
    return counter.document_frequency


def reference_reward(
    texts: Sequence[str], clips: Sequence[int], ended: Sequence[bool], corpus: Sequence[Any]
) -> list[float]:
    """The rewards of tokenized captions by pycocoevalcap."""
    scorer = WholeCorpus()
    for text, clip, end in zip(texts, clips, ended, strict=True):
        references = [f"{reference} {END}" for reference in corpus[clip]]
        scorer += (f"{text} {END}" if end else text, references)
    return scorer.scores()


def reward_row(draw: random.Random, corpus: list[list[str]], hypotheses: int) -> Row:
    """A batch's rewards; the captions are references with some words changed."""
    clips = [clip for clip in draw.sample(range(CORPUS), CLIPS) for _ in range(hypotheses)]
    texts = [
        " ".join(
            word if draw.random() < 0.7 else draw.choice(WORDS)
            for word in draw.choice(corpus[clip]).split()
        )
        for clip in clips
    ]
    ended = [True] * len(texts)
    reward = Reward(corpus, ScstConfig(), "cpu")
    WholeCorpus.frequency = count(corpus)

    def theirs() -> list[float]:
        return reference_reward(texts, clips, ended, corpus)

    def ours() -> Any:
        return reward(texts, clips, ended)

    assert np.allclose(ours(), theirs(), atol=1e-6)
    name = f"reward of {CLIPS} clips × {hypotheses} hypotheses × {REFERENCES} references"
    return compare(name, theirs, ours, TARGET)


def step_row(corpus: list[list[str]], samples: int, device: torch.device, alone: int = 4) -> Row:
    """One step, forward and backward; ``alone``: how many clips are sampled one by one."""
    captioner = random_captioner()
    model = captioner.model.to(device)
    scst = ScstConfig(samples=samples, dropout=False)
    plan = FinetuningPlan(
        name="tuned", inputs={}, code={}, captioner="", dataset="", features=("one",), scst=scst
    )
    reward = Reward(corpus, scst, "cpu")
    values = torch.randn(CLIPS, FRAMES, WIDTH, device=device)
    features = (Padded(values, torch.full((CLIPS,), FRAMES, device=device)),)
    batch = Batch(features, torch.zeros(CLIPS, 1, device=device), None, torch.arange(CLIPS))
    some = Padded(*(part[:alone] for part in features[0]))
    with ThreadPoolExecutor(1) as thread:
        step = SelfCritical(plan, captioner, reward, thread, device)

        def ours() -> None:
            model.zero_grad()
            step.loss(batch).total.backward()

        def theirs() -> None:
            model.zero_grad()
            with torch.backends.cudnn.flags(enabled=False):  # it has no gradients in eval mode
                one_by_one(captioner, some, samples, corpus).backward()

        name = f"SCST step, {samples} sampled + greedy"
        row = compare(name, theirs, ours, TARGET, repeats=3)
    return replace(row, slow=row.slow * CLIPS / alone)


def random_captioner() -> TrainedCaptioner:
    """SJTU's two-layer Transformer captioner with random weights."""
    torch.manual_seed(1)
    settings = Seq2SeqConfig()
    words = WordsConfig(min_count=settings.min_count, longest=settings.max_words + 2)
    plan = CaptionerPlan(
        name="base", inputs={}, code={}, dataset="", features=("one",),
        model=Seq2SeqModelConfig(tokens=words, seq2seq=settings), training=TrainingConfig(),
    )  # fmt: skip
    tokens = TokenIds(TOKENIZER.size, TOKENIZER.begin, TOKENIZER.pad, TOKENIZER.end)
    model = planned_captioner(plan, Inputs(plan.features, (WIDTH,)), tokens)
    return TrainedCaptioner(plan, model, TOKENIZER, (WIDTH,))


def one_by_one(
    captioner: TrainedCaptioner, features: Padded, samples: int, corpus: list[list[str]]
) -> Tensor:
    """The loss of one step by the obvious loops."""
    model, longest = captioner.model.eval(), captioner.plan.model.tokens.longest - 2
    losses = []
    for clip in range(len(features.lengths)):
        memory = model.encode((Padded(*(part[clip : clip + 1] for part in features)),))
        rows = [
            uncached(captioner, memory, longest, sampled=n < samples) for n in range(samples + 1)
        ]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, True, TOKENIZER.pad)
        texts = captioner.tokenizer.decode(tokens)
        ended = [len(row) < longest + 2 for row in rows]
        rewards = reference_reward(texts, [clip] * len(rows), ended, corpus)
        gain = advantages(torch.tensor([rewards], device=tokens.device), "greedy")
        repeated = Memory(*(part.expand(samples, *part.shape[1:]) for part in memory))
        written = tokens[:samples]
        log_probs = token_log_probs(
            model.logits(repeated, written[:, :-1]),
            written[:, 1:],
            begin=TOKENIZER.begin,
            pad=TOKENIZER.pad,
        )
        losses.append(
            self_critical_loss(log_probs[None], (written[None, :, 1:] != TOKENIZER.pad), gain)
        )
    return torch.stack(losses).mean()


@torch.no_grad()
def uncached(captioner: TrainedCaptioner, memory: Memory, longest: int, *, sampled: bool) -> Tensor:
    """(L,): one hypothesis, whose whole prefix is read again at every step."""
    tokens = torch.tensor([[TOKENIZER.begin]], device=memory.values.device)
    for _ in range(longest):
        logits = captioner.model.logits(memory, tokens)[:, -1]
        logits[:, [TOKENIZER.begin, TOKENIZER.pad]] = float("-inf")
        chosen = logits.softmax(-1).multinomial(1) if sampled else logits.argmax(-1, keepdim=True)
        tokens = torch.cat((tokens, chosen), 1)
        if int(chosen) == TOKENIZER.end:
            return tokens[0]
    return torch.cat((tokens[0], tokens.new_tensor([TOKENIZER.end])))


if __name__ == "__main__":
    main()
