"""Sections ``training``, ``retrieval_training`` and ``scst``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import When
from pipeline.config.section import Section
from pipeline.weights import Weights

ADAMW = When("optimizer", "adamw")
DECAYING = When("schedule", "cosine", "exponential", "plateau")
PLATEAU = When("schedule", "plateau")
CYCLIC = When("schedule", "cyclic_cosine")
STEP = When("schedule", "step")
ScheduleName = Literal["cyclic_cosine", "cosine", "exponential", "constant", "plateau", "step"]


class OptimisationConfig(Section):
    """What every training run has."""

    epochs: int = Field(20, ge=1)  # EDTC 4.3
    batch: int = Field(32, ge=1)  # EDTC 4.3
    accumulate: int = Field(1, ge=1)  # batches of an optimizer step (RLSSR 4.2: 4); see loop.py
    learning_rate: float = Field(3e-5, gt=0)  # the highest; EDTC 4.3
    optimizer: Literal["adamw", "adam"] = "adamw"  # EDTC 4.3
    schedule: ScheduleName = "cyclic_cosine"
    warmup_epochs: float = Field(0.0, ge=0)  # linear, before any schedule (ours in EDTC)
    warmup_steps: int = Field(0, ge=0)  # the same in steps; both add up
    # the factor at the end of cosine and exponential; plateau's smallest
    decay_to: Annotated[float, DECAYING] = Field(0.0, ge=0, le=1)
    plateau_factor: Annotated[float, PLATEAU] = Field(0.1, gt=0, lt=1)  # of the rate
    plateau_epochs: Annotated[float, PLATEAU] = Field(5, gt=0)  # in which the score did not rise
    cycle_epochs: Annotated[float, CYCLIC] = Field(4, gt=0)  # EDTC 4.3
    cycle_floor: Annotated[float, CYCLIC] = Field(0.1, gt=0, le=1)  # tenfold a cycle, EDTC 4.3
    halve_epochs: Annotated[float, CYCLIC] = Field(4, gt=0)  # of the base rate, EDTC 4.3
    step_epochs: Annotated[float, STEP] = Field(10, gt=0)  # after the warm-up, WSAC 4.2
    step_factor: Annotated[float, STEP] = Field(0.2, gt=0, le=1)  # of the rate, WSAC 4.2
    weight_decay: Annotated[float, ADAMW] = Field(0.01, ge=0)  # AdamW's default
    gradient_clip: float = Field(1.0, ge=0)  # 0: off (ours)
    validations_per_epoch: int = Field(3, ge=1)  # EDTC 4.3
    patience_epochs: float = Field(4, gt=0)  # early stop, EDTC 4.3
    average_epochs: int = Field(0, ge=0)  # > 0: the mean of so many last epochs' weights is kept
    validation_share: float | None = Field(None, gt=0, lt=1)  # development and validation merged
    # and split anew, this share for validation (SJTU 3: 0.1); null leaves the splits as they are
    captions: Literal["all", "one"] = "all"  # per clip and epoch: each of them, or one drawn


class TrainingConfig(OptimisationConfig):
    """Cross-entropy training of captioners; EDTC's values."""

    label_smoothing: float = Field(0.1, ge=0, lt=1)  # EDTC 4.3; SJTU 3
    # so many batches are drawn at once and made of captions of like length, which leaves less
    # padding to compute (ours); 1: batches as they are drawn
    bucket: int = Field(1, ge=1)
    # probability of teacher forcing at the last step, falling linearly from 1 (SJTU 3: 0.7)
    teacher_forcing: float = Field(1.0, ge=0, le=1)


class RetrievalTrainingConfig(OptimisationConfig):
    """Contrastive training of retrievers; SJTU's pre-training."""

    batch: int = Field(128, ge=2)  # SJTU 3
    learning_rate: float = Field(1e-4, gt=0)  # SJTU 3; fine-tuning: 2e-5
    optimizer: Literal["adamw", "adam"] = "adam"  # SJTU 3
    schedule: ScheduleName = "cosine"  # SJTU 3
    warmup_epochs: float = Field(1.0, ge=0)  # SJTU 3
    weight_decay: Annotated[float, ADAMW] = Field(0.0, ge=0)
    validations_per_epoch: int = Field(1, ge=1)
    patience_epochs: float = Field(20, gt=0)
    crop_seconds: float | None = Field(10.0, gt=0)  # of each clip, at random; SJTU's code


class RewardsConfig(Section):
    """Weights of the sum that self-critical training raises; a zero is not computed."""

    cider_d: float = Field(1.0, ge=0)  # SJTU 2.1
    bleu_4: float = Field(0.0, ge=0)
    sbert: float = Field(0.0, ge=0)  # mean cosine with the references, by scst.sbert
    repetition: float = Field(0.0, ge=0)  # is subtracted: share of word pairs that stood before
    bad_ending: float = Field(0.0, ge=0)  # is subtracted: 1 where no sentence ends so


class ScstConfig(OptimisationConfig):
    """Self-critical sequence training (Rennie et al. 2017); SJTU's values."""

    epochs: int = Field(100, ge=1)  # SJTU 3
    batch: int = Field(64, ge=1)  # clips; SJTU 3
    learning_rate: float = Field(5e-5, gt=0)  # SJTU 3
    optimizer: Literal["adamw", "adam"] = "adam"  # SJTU 3
    schedule: ScheduleName = "constant"
    weight_decay: Annotated[float, ADAMW] = Field(0.0, ge=0)
    validations_per_epoch: int = Field(1, ge=1)
    patience_epochs: float = Field(100, gt=0)
    captions: Literal["all", "one"] = "one"  # a clip once an epoch: it needs none of its captions
    samples: int = Field(1, ge=1)  # of each clip; SJTU's code
    baseline: Literal["greedy", "others"] = "greedy"  # others: the mean of a clip's other samples
    temperature: float = Field(1.0, gt=0)  # SJTU's code
    # in the pass that has gradients; samples are drawn without it, so that with the greedy baseline
    # the gradient would be biased (SJTU's code draws with it)
    dropout: bool = False
    chunks: int = Field(2, ge=1)  # a batch is sampled in so many: rewards of one, draws of the next
    rewards: RewardsConfig = RewardsConfig()
    # weights of the sbert reward: hub:…, package:… or a path
    sbert: Annotated[Weights | None, When("rewards.sbert")] = None

    @model_validator(mode="after")
    def _consistent(self) -> ScstConfig:
        if self.baseline == "others" and self.samples < 2:
            raise ValueError("baseline: others needs samples of 2 or more")
        if self.baseline == "greedy" and self.dropout:
            raise ValueError("dropout: true needs baseline: others; with greedy training collapses")
        if self.rewards.sbert and self.sbert is None:
            raise ValueError("rewards.sbert needs sbert: hub:owner/name, package:NAME or a path")
        if not any(self.rewards.model_dump().values()):
            raise ValueError("rewards are all 0; give one a weight")
        return self
