"""What of a manifest is read, by the names the user gives.

In: the options. Out: `Columns`, checked as far as that goes without the manifest.
"""

from dataclasses import dataclass
from pathlib import Path

from gemini_batch.config import Options
from gemini_batch.coordinator.template import Template, parse_template
from gemini_batch.dataset import dataset_schema
from gemini_batch.errors import BadInput
from gemini_batch.inputs import read_text
from gemini_batch.records import ColumnNames


@dataclass(frozen=True)
class Columns:
    """Names of columns, and how many rows."""

    prompt: str = "prompt"
    key: str = "key"
    limit: int | None = None
    """Rows to take, the first ones; None for all."""
    template: Template | None = None
    """Makes the prompt of other columns."""
    image: str | None = None
    """Holds the picture that follows the text."""
    keep: tuple[str, ...] = ()
    """Copied into the dataset."""

    @property
    def rendered(self) -> tuple[str, ...]:
        """Columns that the template names."""
        return tuple(dict.fromkeys(self.template.columns)) if self.template else ()

    def recorded(self) -> ColumnNames:
        """As a run keeps them."""
        template = self.template and self.template.text
        return ColumnNames(prompt=self.prompt, key=self.key, template=template, image=self.image)

    def decisive(self) -> list[str]:
        """Columns that say what a row asks, or whose it is."""
        asked = self.rendered if self.template else (self.prompt, "parts")
        return list(dict.fromkeys([self.key, *asked, *([self.image] if self.image else [])]))

    def least(self) -> list[str]:
        """Columns that an empty file without a header is taken to have."""
        left_out = {"parts"} | ({self.key} if self.key == Columns.key else set())
        return [name for name in self.decisive() if name not in left_out]


def read_columns(options: Options) -> Columns:
    """
    Raises:
        BadInput: options that exclude one another, a template that cannot be read.
    """
    template = None if options.template is None else parse_template(_text_of(options.template))
    if template and options.prompt_column != Columns.prompt:
        raise BadInput("--template and --prompt-column: one of them says what the prompt is")
    _refuse_kept(options.keep)
    return Columns(
        prompt=options.prompt_column,
        key=options.key_column,
        limit=options.limit,
        template=template,
        image=options.image_column,
        keep=options.keep,
    )


def columns_again(names: ColumnNames) -> Columns:
    """Those of a run, for other rows."""
    template = parse_template(names.template) if names.template else None
    return Columns(prompt=names.prompt, key=names.key, template=template, image=names.image)


def _refuse_kept(names: tuple[str, ...]) -> None:
    fixed = dataset_schema(None).names
    for at, name in enumerate(names):
        if name in fixed:
            raise BadInput(f"--keep {name}: the dataset has a column of that name already; rename yours")
        if name in names[:at]:
            raise BadInput(f"--keep {name}: named twice")


def _text_of(template: str) -> str:
    """The template itself, or what stands in the `@file`; the line end of its last line is not part of it."""
    if not template.startswith("@"):
        return template
    text = read_text("--template", Path(template[1:]))
    return text.removesuffix("\n").removesuffix("\r")
