"""Bodies about jobs: what to score and how, and how far it is."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from premem.forecasting.thresholds import Basis
from premem.method.copying import COPIED_FROM
from premem.wire.bodies import Body, GraderChoice, Name, Reply, Share
from premem.wire.display import DisplayedReply


class Sampling(Body):
    """How answers are drawn. The defaults are the paper's."""

    samples: int = Field(5, ge=1, le=1000, description="Answers per example and checkpoint (the paper's k).")
    temperature: float = Field(0.8, ge=0.0, le=10.0, description="0 is greedy.")
    top_p: float = Field(0.95, gt=0.0, le=1.0)
    max_tokens: int = Field(512, ge=1, le=131_072, description="Per answer.")
    stop: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(["\nDone."], max_length=16)
    seed: int = Field(0, ge=0, lt=2**63, description="Every sample's own seed follows from this one.")


class Template(Body):
    """How a row becomes the prompt and the trained target. `{question}` and `{trace}` are replaced by its columns.

    With `chat`, `prompt` is the user's turn and `target` the assistant's; the chat template of the checkpoint's tokenizer,
    which only the workers have, is put around both.
    """

    prompt: str = Field("{question}\nAnswer:", max_length=100_000, description="Absent in a chat: {question}.")
    target: str = Field(" {trace}\nDone.", max_length=100_000, description="Absent in a chat: {trace}.")
    chat: bool = Field(
        False,
        description="True: prompt and target are turns of a chat, written by the chat template of the checkpoint's tokenizer.",
    )
    system: str = Field(
        "",
        max_length=100_000,
        description="The system's turn, the first of a chat.",
    )

    @model_validator(mode="before")
    @classmethod
    def _chat_defaults(cls, fields: Any) -> Any:
        """The columns alone: in a chat the turns mark the question and the answer."""
        if isinstance(fields, dict) and fields.get("chat"):
            return {"prompt": "{question}", "target": "{trace}"} | fields
        return fields

    @model_validator(mode="after")
    def _system_needs_chat(self) -> Self:
        if self.system and not self.chat:
            raise ValueError("system is a turn of a chat: set chat, or leave out system")
        return self

    @field_validator("prompt")
    @classmethod
    def _holds_question(cls, prompt: str) -> str:
        if "{question}" not in prompt:
            raise ValueError("must contain {question}")
        return prompt

    @field_validator("target")
    @classmethod
    def _holds_trace(cls, target: str) -> str:
        if "{trace}" not in target:
            raise ValueError("must contain {trace}")
        return target

    def render_prompt(self, question: str) -> str:
        return self.prompt.replace("{question}", question)

    def render_target(self, trace: str) -> str:
        return self.target.replace("{trace}", trace)


class Checkpoint(Body):
    """One checkpoint of a run: a Hugging Face folder that the workers can read, or a hub id."""

    path: str = Field(min_length=1, max_length=4096)
    name: str = Field(
        "", max_length=200, description="Shown in tables, unique within a job. Absent: the last part of the path."
    )

    @model_validator(mode="after")
    def _default_name(self) -> Checkpoint:
        self.name = self.name or re.split(r"[/\\]", self.path.rstrip("/\\"))[-1] or self.path
        return self


class Perturbation(Body):
    """One way to change the prompts, to see what accuracy survives it at the last checkpoint."""

    name: Name = Field(description="Shown in tables, unique within a job.")
    answer_prefix: str = Field(
        "", max_length=10_000, description='Put after the prompt, so that the answer continues it: " We know that".'
    )
    question_prefix: str = Field("", max_length=10_000)
    question_suffix: str = Field("", max_length=10_000)
    question_column: str | None = Field(
        None, min_length=1, max_length=200, description="Column of the uploaded rows that holds a rewritten question."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.answer_prefix or self.question_prefix or self.question_suffix or self.question_column):
            raise ValueError("changes nothing: give answer_prefix, question_prefix, question_suffix or question_column")
        if self.name == BASELINE:
            raise ValueError(f"{BASELINE!r} is the name of the unperturbed draw: take another")
        return self


BASELINE = "baseline"
"""Name of the unperturbed answers, drawn again to compare the perturbed ones with."""
CalibrationName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Dtype = Literal["float32", "bfloat16", "float16"]
Trajectory = Literal["final", "full", "everything"]
"""Which answers are drawn: `final` only those that can change the final scores; `full` also those that the scores at every
earlier checkpoint need; `everything` every answer at every checkpoint. With the same seeds the final scores are the same."""
MemorizedBelow = Annotated[float, Field(gt=1.0, le=1e6)] | Literal["gsm8k-llama3", "math-llama3"]


class JobRequest(Body):
    """A scoring job: what every checkpoint of a run can solve, and what it has memorized."""

    dataset: Name = Field(description="Id of the training data set.")
    checkpoints: list[Checkpoint] = Field(
        default_factory=list, max_length=1000, description="In the order in which training saved them."
    )
    open: bool = Field(False, description="True: more checkpoints will be appended; the job ends once it is closed.")
    test_dataset: Name | None = Field(
        None, description="Id of a data set that was not trained on, sampled at every checkpoint."
    )
    name: str = Field("", max_length=200)
    sampling: Sampling = Field(default_factory=Sampling)
    template: Template = Field(default_factory=Template)
    grader: GraderChoice | None = Field(None, description="Absent: the data set's.")
    memorized_below: MemorizedBelow | None = Field(
        None,
        description="An example counts as memorized below this perplexity, or below that of a named preset. Absent: a quantile of the first checkpoint's perplexities, on which no forecast can rest.",
    )
    calibration: CalibrationName | None = Field(
        None,
        description="Name or id of a calibration, instead of memorized_below: the job uses its threshold and gets a forecast.",
    )
    task: str = Field(
        "", max_length=200, description="What a calibration is for, such as gsm8k. Absent: the data set's name."
    )
    learning_rate: float | None = Field(
        None,
        gt=0.0,
        le=1e6,
        description="Learning rate of the run; a calibration warns where its runs do not differ in it.",
    )
    copied_from: float = Field(
        COPIED_FROM,
        gt=0.0,
        le=1.0,
        description="An answer counts as copied from this similarity to the reference reasoning, by words: 1 is word for word.",
    )
    perturbations: list[Perturbation] = Field(
        default_factory=list,
        max_length=32,
        description="Changed prompts, answered at the last checkpoint and compared with fresh unperturbed answers: the report says how much accuracy each costs.",
    )
    previous: Name | None = Field(
        None,
        description="Id of the completed job of the previous round: the report says what the added examples changed.",
    )
    base: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="Folder or hub id of the base model of the LoRA adapters among the checkpoints. Absent: the one that each adapter names.",
    )
    dtype: Dtype | None = Field(None, description="Absent: the one that the first checkpoint was saved in.")
    trajectory: Trajectory | None = Field(
        None,
        description="Which answers are drawn: only those that can change the final scores (final), those that every checkpoint's scores need (full), or all (everything). Absent: everything with a test_dataset, a calibration or open, else final.",
    )
    below: Share | None = Field(
        None,
        description="Find out only whether each score is under this, which takes fewer answers; needs the trajectory final.",
    )
    shard_rows: int = Field(256, ge=1, le=100_000, description="Examples per task.")

    # A stored request overrides this one by its name.
    @model_validator(mode="after")
    def _sound(self) -> JobRequest:
        if self.calibration is not None and self.memorized_below is not None:
            raise ValueError("give memorized_below or a calibration, not both: a calibration brings its threshold")
        if self.calibration is not None and self.trajectory in ("final", "full"):
            raise ValueError(
                "a calibration forecasts from every checkpoint's accuracy: leave out trajectory, or give memorized_below in "
                "place of the calibration"
            )
        if self.below is not None and (self.trajectory_drawn != "final" or self.below == 0.0):
            raise ValueError("below is above 0, and is for the trajectory final: set that, or leave out below")
        if not self.checkpoints and not self.open:
            raise ValueError("checkpoints is empty: name at least one, or set open and append them later")
        names = [checkpoint.name for checkpoint in self.checkpoints]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two checkpoints are named {twice[0]!r}: give each a name of its own")
        perturbed = [perturbation.name for perturbation in self.perturbations]
        twice = sorted({name for name in perturbed if perturbed.count(name) > 1})
        if twice:
            raise ValueError(f"two perturbations are named {twice[0]!r}: give each a name of its own")
        return self

    @property
    def trajectory_drawn(self) -> Trajectory:
        """The trajectory, or its default: a forecast, a test accuracy and a curve while training need everything."""
        curves = self.open or self.test_dataset is not None or self.calibration is not None
        return self.trajectory or ("everything" if curves else "final")


JobState = Literal["queued", "running", "finalizing", "completed", "failed", "cancelling", "cancelled"]
ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})


JobKind = Literal["score", "regrade", "resample", "acquire"]


class ThresholdReply(Reply):
    """The perplexity below which an example counts as memorized, and where it comes from."""

    memorized_below: float | None = Field(
        description="Perplexity. Null until the first checkpoint is scored, where the threshold is taken from that."
    )
    basis: Basis
    source: str
    forecast: Literal["given", "refused"] = "refused"
    forecast_reason: str = Field(description="Why the forecast is refused, or what it rests on.")


class TaskCounts(Reply):
    """How many tasks are in each state."""

    total: int = 0
    queued: int = 0
    leased: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class JobCounts(Reply):
    """Counts over committed results, so that nothing counts twice."""

    tasks: TaskCounts
    examples: int = Field(description="Pairs of example and checkpoint that are done, training and test.")
    examples_total: int
    skipped: int = Field(description="Of these, pairs that were skipped, each with a reason in its result.")
    samples: int
    tokens: int = Field(description="Scored and sampled.")
    prompt_tokens: int = Field(
        0, description="Tokens of all prompts that the engines were sent, repeated ones included."
    )
    cached_tokens: int = Field(0, description="Of these, tokens that an engine still had in its cache.")
    engine_seconds: float = Field(0.0, description="Seconds in which engines had work, summed over the workers.")
    samples_saved: int = Field(0, description="Answers that were not drawn, since they could not change a score.")
    tokens_saved: int = Field(0, description="The same in tokens, at the mean length of the drawn answers.")


class CheckpointProgress(Reply):
    """How far one checkpoint of a job is."""

    name: str
    path: str
    state: Literal["queued", "running", "completed", "failed", "cancelled"]
    tasks: TaskCounts
    error: str | None = None


class Job(DisplayedReply):
    """A job: what it scores, how, and how far it is."""

    repr_fields: ClassVar = ("id", "kind", "name", "state", "dataset", "checkpoints")

    id: str
    kind: JobKind = "score"
    parent: str | None = Field(
        None, description="The job that this one regrades, draws more answers for, or acquires examples for."
    )
    previous: str | None = Field(None, description="The job of the previous round.")
    perturbations: list[Perturbation] = Field(default_factory=list)
    name: str
    state: JobState
    open: bool
    dataset: str
    test_dataset: str | None
    sampling: Sampling
    template: Template
    grader: GraderChoice
    dtype: str | None
    trajectory: Trajectory = "everything"
    below: float | None = Field(None, description="The job finds out only whether scores are under this.")
    threshold: ThresholdReply
    calibration: str | None = Field(None, description="Id of the calibration that the threshold comes from.")
    task: str = Field("", description="What a calibration is for, such as gsm8k.")
    learning_rate: float | None = None
    copied_from: float = Field(
        COPIED_FROM, description="Similarity to the reference reasoning from which an answer counts as copied."
    )
    recorded: bool = Field(False, description="True: imported, scored by others; their answers are not here.")
    counts: JobCounts
    checkpoints: list[CheckpointProgress]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    seconds_left: float | None = Field(description="Estimated from the tasks done so far; null until there are any.")
    tokens_per_second: float | None = Field(
        None,
        description="Scored and sampled tokens per second of one engine while it has work; null until a result reports seconds.",
    )
    errors: list[str]
    warnings: list[str]
