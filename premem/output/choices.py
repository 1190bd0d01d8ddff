"""What was chosen, out of what, and single examples, as a terminal shows them."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from premem.output.console import new_table
from premem.output.reports import threshold_text
from premem.output.text import indented, interval_text, printable, share_text, shortened
from premem.wire.curation import Acquisition, Lineage, Overlap, Selection
from premem.wire.examples import ExampleDetail, ExamplePage


def selection_lines(selection: Selection, *, most: int) -> list[Table | Text | str]:
    """How many qualified, what they have in common, and the first of them beside the first of the control."""
    lineage = selection.lineage
    lines: list[Table | Text | str] = [
        f"policy {lineage.policy}: {selection.qualified:,} examples qualified, {selection.total:,} are chosen, and as many "
        "drawn at random for the control"
    ]
    if selection.traits:
        traits = new_table("trait", "chosen", "rest", "effect")
        for trait in selection.traits:
            traits.add_row(trait.name, f"{trait.chosen:.3g}", f"{trait.rest:.3g}", f"{trait.effect:+.2f}")
        lines.append(traits)
    rows = new_table(
        "", "chosen row", "pre-memorization accuracy", "mean accuracy", "control row", "pre-memorization accuracy"
    )
    for place, (chosen, control) in enumerate(zip(selection.chosen[:most], selection.control[:most], strict=True)):
        numbers = (f"{chosen.score:.2f}", share_text(chosen.mean_accuracy), str(control.row), f"{control.score:.2f}")
        rows.add_row(str(place), str(chosen.row), *numbers)
    if selection.chosen:
        lines.append(rows)
    return [*lines, threshold_text(lineage.threshold), *(printable(f"Note: {note}") for note in selection.notes)]


def overlap_lines(overlap: Overlap) -> list[Table | Text | str]:
    """How many examples two policies both choose, how many only one of them, and the rows of the first of each."""
    table = new_table("chosen by", "examples", left=("rows, the best first",))
    for name, part in (
        ("both", overlap.both),
        (f"only {_policy_text(overlap.lineage)}", overlap.only_one),
        (f"only {_policy_text(overlap.other)}", overlap.only_other),
    ):
        rows = ", ".join(str(one.row) for one in part.first)
        more = ", …" if rows and len(part.first) < part.total else ""
        table.add_row(name, f"{part.total:,}", rows + more)
    return [table, threshold_text(overlap.lineage.threshold)]


def _policy_text(lineage: Lineage) -> str:
    """A policy with what it goes by, so that two of the same name are told apart."""
    explanations = {
        "lowest": f" below {lineage.below:g}",
        "band": f" from {lineage.above:g} up to {lineage.below:g}",
        "mean": f" below {lineage.below:g}",
        "random": f" with seed {lineage.seed}",
    }
    most = "" if lineage.budget is None else f", {lineage.budget:,} at most"
    return f"{lineage.policy}{explanations.get(lineage.policy, '')}{most}"


def acquisition_lines(found: Acquisition, *, most: int) -> list[Table | Text | str]:
    """The candidates that are most alike, each with the low example that it is nearest to."""
    table = new_table("pool row", "likeness", "similarity", left=("candidate", "nearest low example"))
    for candidate in found.candidates[:most]:
        shown = candidate.columns.get("question") or candidate.columns.get("prompt") or candidate.id
        near = Text(shortened(printable(candidate.nearest.question), 60))
        numbers = (share_text(candidate.likeness), f"{candidate.similarity:.2f}")
        table.add_row(str(candidate.row), *numbers, Text(shortened(printable(str(shown)), 60)), near)
    return [
        f"{len(found.candidates):,} candidates like {found.low:,} low examples, by {found.by}; {found.left_out:,} rows of the "
        "pool were trained on already",
        table,
        *(printable(f"Note: {note}") for note in found.notes),
    ]


def examples_table(page: ExamplePage) -> Table:
    """One line per example, in rank order, with its interval and its accuracy at each checkpoint; * where memorized."""
    numbers = (
        "rank",
        "row",
        "pre-memorization\naccuracy",
        "90%\ninterval",
        "mean\naccuracy",
        "accuracy per\ncheckpoint",
    )
    table = new_table(*numbers, left=("question",))
    for item in page.items:
        history = " ".join(
            f"{'  –' if accuracy is None else f'{accuracy:.1f}'}{'*' if memorized else ' '}"
            for accuracy, memorized in zip(item.accuracy, item.memorized, strict=True)
        )
        table.add_row(
            str(item.rank),
            str(item.row),
            share_text(item.pre_memorization_accuracy),
            interval_text(item.interval),
            share_text(item.mean_accuracy),
            history,
            Text(shortened(printable(item.question), 100)),
        )
    return table


def example_text(example: ExampleDetail) -> Text:
    """One example in full: question, reference, and every answer of every checkpoint with its verdict."""
    text = Text()
    text.append(f"row {example.row}, id {printable(example.id)}, rank {example.rank}\n", style="bold")
    text.append(
        f"pre-memorization accuracy {example.pre_memorization_accuracy:.2f}"
        f" (90% interval {interval_text(example.interval)}), "
        f"{'' if example.mean_accuracy is None else f'mean accuracy {example.mean_accuracy:.2f}, '}"
        f"{'' if example.last_accuracy is None else f'last accuracy {example.last_accuracy:.2f}, '}"
        f"{f'memorized at {printable(example.memorized_at)}' if example.memorized_at else 'never memorized'}\n\n"
    )
    _append_section(text, "Question", example.question)
    _append_section(text, "Reference", example.trace)
    if example.final_answer is not None:
        _append_section(text, "Final answer", example.final_answer)
    for seen in example.checkpoints:
        about = [
            "" if seen.perplexity is None else f"perplexity {seen.perplexity:.4f}",
            "memorized" if seen.memorized else "",
            "" if seen.accuracy is None else f"accuracy {seen.accuracy:.2f}",
            f"{seen.copied:.0%} of the answers copied" if seen.copied else "",
        ]
        text.append(f"{printable(seen.checkpoint)}: {', '.join(filter(None, about))}\n", style="bold")
        for answer in seen.answers:
            extracted = "" if answer.extracted is None else f" ({printable(answer.extracted)})"
            cut = "" if answer.finished else ", cut off at the token limit"
            style = "green" if answer.verdict == "right" else "red"
            like = "" if answer.similarity is None else f", {answer.similarity:.0%} like the reference"
            text.append(f"  {answer.verdict}{extracted}{cut}{like}\n", style=style)
            text.append(indented(answer.text, "    "))
        text.append("\n")
    return text


def _append_section(text: Text, title: str, content: str) -> None:
    text.append(f"{title}\n", style="bold")
    text.append(indented(content, "  "))
    text.append("\n")
