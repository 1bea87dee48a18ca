"""One step of self-critical sequence training (Rennie et al. 2017; SJTU 2.1).

A step samples each clip's hypotheses, and its greedy one, in evaluation mode and without gradients
(decoding/rollout.py), scores them (metrics/rewards.py), and runs the model again over the samples,
teacher-forced and with gradients, for their log-probabilities (losses/policy.py). A thread computes
the rewards: those of one chunk of the batch while the next is sampled, those of the last during the
pass with gradients, which does not wait for them. Samples and gradients are of the same weights.

Without ``scst.dropout`` the pass with gradients has the log-probabilities with which the samples
were drawn, and batch norms (FUSER's) do not change: the gradient is that of the expected reward.
With it the pass has dropout, and batch norms use the batch, as in cross-entropy training. Then the
mean of ∇ log p over samples is no longer zero. If all samples of a clip score below the baseline,
as they do below a trained model's greedy caption, the model moves away from all that it writes, and
collapses. So dropout is only allowed with the baseline ``others``, whose advantages sum to zero in
each clip. (SJTU's code has dropout with the greedy baseline, but its samples have dropout too: they
are of the pass whose gradient it takes.)

The search, the thread and the rewards cannot be compiled: ``hardware.compile`` compiles the pass
with gradients alone.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline import ranks
from pipeline.config.plans import FinetuningPlan
from pipeline.decoding.rollout import Rollout, rollout
from pipeline.device import compiled
from pipeline.losses.policy import advantages, self_critical_loss, token_log_probs
from pipeline.metrics.rewards import Reward
from pipeline.tensors import Batch, Memory, Padded
from pipeline.trained.captioner import TrainedCaptioner


class SelfCriticalLosses(NamedTuple):
    """Scalars of one batch."""

    total: Tensor
    reward: Tensor  # mean over the samples
    baseline_reward: Tensor | None  # mean over the greedy hypotheses, where they are the baseline
    length: Tensor  # mean tokens of the samples, without the end


class SelfCritical:
    """The loss of one batch of clips; its ``clips`` are rows of the reward's references."""

    def __init__(
        self,
        plan: FinetuningPlan,
        captioner: TrainedCaptioner,
        reward: Reward,
        thread: ThreadPoolExecutor,
        device: torch.device,
    ) -> None:
        self.scst, self.seed = plan.scst, plan.seed
        self.model, self.tokenizer = captioner.model, captioner.tokenizer
        self.max_length = captioner.plan.model.tokens.longest - 2
        self.reward, self.thread = reward, thread
        self.greedy = plan.scst.baseline == "greedy"
        self.step = 0
        self.log_probs: Callable[[tuple[Padded, ...], Tensor], Tensor]
        self.log_probs = compiled(self._log_probs, plan.hardware.compile)

    def before_step(self, step: int, steps: int) -> None:
        """Keeps the step's number, on which the draws depend."""
        self.step = step
        self.model.before_step(step, steps)

    def loss(self, batch: Batch) -> SelfCriticalLosses:
        """The policy gradient's loss; only the samples' log-probabilities have a gradient."""
        self.model.eval()
        drawn, rewards = self._sample(batch)
        self.model.train(self.scst.dropout)
        samples, chosen = (part[:, : self.scst.samples] for part in (drawn.tokens, drawn.chosen))
        with self._kernels():
            log_probs = self.log_probs(batch.features, samples)
        scores = torch.cat([each.result() for each in rewards])
        if log_probs.is_cuda:
            scores = scores.pin_memory().to(log_probs.device, non_blocking=True)
        advantage = advantages(scores, self.scst.baseline)
        clips = len(samples)
        length = (samples != self.tokenizer.pad).sum(-1).float().mean()
        return SelfCriticalLosses(
            total=self_critical_loss(log_probs, chosen, advantage),
            reward=ranks.weighted(scores[:, : self.scst.samples].mean(), clips),
            baseline_reward=ranks.weighted(scores[:, -1].mean(), clips) if self.greedy else None,
            length=ranks.weighted(length, clips) - 2,
        )

    def _kernels(self) -> AbstractContextManager[None]:
        """cuDNN has no gradients of a recurrence in evaluation mode; torch's kernels have."""
        recurrent = any(isinstance(module, nn.RNNBase) for module in self.model.modules())
        if self.scst.dropout or not recurrent:
            return nullcontext()
        return torch.backends.cudnn.flags(enabled=False)

    @torch.no_grad()
    def _sample(self, batch: Batch) -> tuple[Rollout, list[Future[Tensor]]]:
        """All hypotheses, cut after the longest, and the future rewards of each chunk.

        Autocast's cache is off: in older torch it would keep casts of the weights without a
        gradient, and the pass with gradients would use them.
        """
        kind = batch.clips.device.type
        with torch.autocast(
            kind,
            torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            cache_enabled=False,
        ):
            memory = self.model.encode(batch.features)
            stepper = self.model.stepper()
            found, rewards, longest = [], [], 0
            rows = torch.arange(len(batch.clips), device=batch.clips.device)
            for part in rows.chunk(self.scst.chunks):
                drawn = rollout(
                    stepper,
                    Memory(*(values[part] for values in memory)),
                    clips=batch.clips[part],
                    samples=self.scst.samples,
                    greedy=self.greedy,
                    max_length=self.max_length,
                    temperature=self.scst.temperature,
                    seed=self.seed,
                    step=self.step,
                )
                found.append(drawn)
                numbers = batch.clips[part].cpu()
                tokens, ended = drawn.tokens.cpu(), drawn.ended.cpu()
                longest = max(longest, int((tokens != self.tokenizer.pad).sum(-1).max()))
                rewards.append(self.thread.submit(self._score, tokens, ended, numbers))
        whole = Rollout(*(torch.cat(parts) for parts in zip(*found, strict=True)))
        cut = Rollout(whole.tokens[:, :, :longest], whole.chosen[:, :, : longest - 1], whole.ended)
        return cut, rewards

    def _score(self, tokens: Tensor, ended: Tensor, clips: Tensor) -> Tensor:
        """(B, K) float32 rewards of tokens (B, K, L) on the CPU; in the thread."""
        texts = self.tokenizer.decode(tokens.flatten(0, 1))
        numbers = clips.repeat_interleave(tokens.shape[1]).tolist()
        values = self.reward(texts, numbers, ended.flatten().tolist())
        return torch.from_numpy(values).float().view(ended.shape)

    def _log_probs(self, features: tuple[Padded, ...], tokens: Tensor) -> Tensor:
        """(B, S, L − 1) of tokens (B, S, L), teacher-forced; padding gives 0."""
        memory = self.model.encode(features)
        samples = tokens.shape[1]
        repeated = Memory(*(values.repeat_interleave(samples, 0) for values in memory))
        rows = tokens.flatten(0, 1)
        logits = self.model.logits(repeated, rows[:, :-1])
        log_probs = token_log_probs(
            logits,
            rows[:, 1:],
            begin=self.tokenizer.begin,
            pad=self.tokenizer.pad,
            temperature=self.scst.temperature,
        )
        return log_probs.view(tokens.shape[0], samples, -1)
