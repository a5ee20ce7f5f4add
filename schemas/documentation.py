"""Writes docs/tables.md, docs/recording.md and docs/configuration.md from the schemas.

`python -m activarium.schemas.documentation docs` writes them; `--check` only compares.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activarium.schemas import config, layout
from activarium.schemas.columns import FORMAT_VERSION
from activarium.schemas.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from activarium.schemas.columns import Column, Table

GENERATED = "<!-- Written by `make docs` from `schemas/`; change it there. -->"

QUERIES = {
    "the units that detect a class best, on images that did not choose it": '"SELECT unit, '
    "average_precision_class, average_precision_crossfit, eta2 FROM trained_units WHERE q_value < 0.01 "
    'ORDER BY crossfit_gain DESC LIMIT 10"',
    "the units that a class suppresses most": '"SELECT unit, suppressed_class, suppressed_auroc FROM '
    'trained_units WHERE strongest_effect < 0 ORDER BY strongest_effect LIMIT 10"',
    "units whose largest mean and largest AUROC are of different classes": '"SELECT unit, '
    "preferred_class, preferred_auroc, auroc_class, auroc FROM trained_units "
    'WHERE preferred_class <> auroc_class ORDER BY crossfit_gain DESC LIMIT 10"',
    "each layer beside its controls": '"SELECT layer, eta2_mean, eta2_mean_shuffled, '
    'eta2_mean_untrained FROM trained_layers ORDER BY depth LIMIT 50"',
    "the classes that one unit tells from the others": '"SELECT class, n, '
    "average_precision, average_precision_chance, auroc, q_value FROM trained_unit_classes "
    "WHERE unit = 'conv1/2' ORDER BY average_precision - average_precision_chance DESC LIMIT 10\"",
    "how many units the control has": "--recording '*untrained*' \"SELECT recording, count(*) AS units "
    'FROM units GROUP BY recording"',
    "which recordings there are": '"SELECT recording, checkpoint, accuracy FROM recordings LIMIT 50"',
}
"""Examples of queries, by what they ask."""

WRITTEN = {"create": "at creation", "shard": "by shards", "finish": "at the end"}
"""When an array is written, by its phase."""


def tables_page() -> str:
    """Return docs/tables.md."""
    lines = [
        "# Tables",
        GENERATED,
        "",
        f"Format version {FORMAT_VERSION}. Each table is a folder `tables/<table>/` with the Hive "
        "partition `recording=<id>`, one immutable file per recording (embeddings: per recording, "
        "layer and method; similarities and unit_matches: per pair of recordings). Every column carries its description and unit in the Arrow field's "
        "metadata; every file carries page checksums, and its sha256 is at "
        "`checksums/<table>/recording=<id>/<file>.sha256`.",
        "",
        "The files that one piece of work makes together (the tables of an analysis, a map, a "
        "comparison of two recordings, a series) are a set, and are replaced as one: its receipt, "
        "`checksums/sets/recording=<id>/<set>.json`, lists the sha256 of each and the command that "
        "makes them. A killed run leaves the old set, or the new one once the next command that "
        "looks at tables (`activarium list`, say) has moved the rest of its files. This program reads "
        "no damaged file and no set of two pieces of work: one line names the file and the command. A reader that "
        "knows nothing of sets may see files of both while files are moved (milliseconds) or after a "
        "kill just then. Tables of earlier versions have no receipt and are checked less, which "
        "`verify` says ([why so](decisions/0019-tables-are-replaced-as-one.md)).",
        "",
        *_examples(),
        "A file that holds columns of an older format version reads well with "
        "`union_by_name = true` in DuckDB; pyarrow and pandas need a unified schema.",
        "",
    ]
    for table in TABLES.values():
        lines += _table_section(table)
    return "\n".join(lines) + "\n"


def _examples() -> Iterator[str]:
    """Yield how the tables are asked, and how a control is told from a trained model."""
    yield from (
        "A table holds the rows of all recordings, those of untrained controls among them. A control is the "
        "recording whose `recordings.checkpoint` is `untrained`. In SQL every table has three views: "
        "`units` (all), `trained_units` and `untrained_units` (where a table also names an "
        "`other_recording`, the trained view holds rows of two trained ones). `--recording` asks only "
        "those that an id, its beginning or a glob names.",
        "",
        "```sh",
    )
    for remark, command in QUERIES.items():
        yield f"# {remark}"
        yield f"activarium query {command}"
    yield from (
        "```",
        "",
        "`query` takes one query that reads: `SELECT`, `WITH`, `FROM`, `VALUES`, `DESCRIBE`, `SUMMARIZE`, `SHOW` "
        "or `EXPLAIN`. It sees the tables, no other file, no setting and no network, and runs in a process of "
        "its own: at most 300 s (`--time-limit SECONDS`) and half of the memory; Ctrl-C ends it. `PIVOT` "
        "needs the values of its columns: `PIVOT units ON layer IN ('conv1') USING avg(eta2)`.",
        "",
        "`--csv` and `--json` print all rows as they come; a table shows the first 200. In CSV, NULL is "
        "nothing and an empty text is two quotes. Of columns of one name, JSON numbers the later ones.",
        "",
        "The files of the tables that a query names are checked against their sha256 before they are read; "
        "of large ones (16 MiB) it is remembered in `work/` until they change. A damaged file is left out and "
        "a line says which and what makes it again; where nothing is left of a table, the query is refused.",
        "",
        "```python",
        "import pandas, pyarrow.dataset",
        "",
        'units = pandas.read_parquet("atlas/tables/units")  # polars.read_parquet likewise',
        'units = pyarrow.dataset.dataset("atlas/tables/units", partitioning="hive").to_table().to_pandas()',
        "",
        'recordings = pandas.read_parquet("atlas/tables/recordings")',
        'trained = recordings.recording[recordings.checkpoint != "untrained"]',
        "units = units[units.recording.isin(trained)]",
        "```",
        "",
        "`auroc` belongs to `auroc_class`, `preferred_auroc` to `preferred_class`: a unit's largest mean and "
        "its largest AUROC may be of different classes. What cannot be tested is null "
        "([how many images each statistic needs](statistics.md#how-many-images)).",
        "",
    )


def _table_section(table: Table) -> Iterator[str]:
    yield f"## {table.name}"
    yield ""
    yield f"One row per {table.row}. {table.description}"
    yield ""
    yield "| column | type | what it holds | unit | range | null |"
    yield "|---|---|---|---|---|---|"
    yield "| recording | string | id of the recording (the partition's name) | | | |"
    for column in table.columns:
        yield _column_row(column)
    yield ""


def _column_row(column: Column) -> str:
    null = "may be" if column.nullable else ""
    description = column.description.replace("|", "\\|")
    cells = (column.name, column.type, description, column.unit, column.range_text, null)
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def recording_page() -> str:
    """Return docs/recording.md."""
    lines = [
        "# A recording",
        GENERATED,
        "",
        f"Format version {layout.FORMAT_VERSION}. One checkpoint run over one test set with one "
        "preprocessing: a Zarr v3 store `recordings/<id>.zarr`. Rows are images, columns are the "
        "units of all layers one after the other. `xarray.open_zarr` reads it with labels:",
        "",
        "```python",
        "import glob, xarray",
        "",
        '(path,) = glob.glob("atlas/recordings/two-block-cnn-epoch-*.zarr")  # the demo\'s',
        "ds = xarray.open_zarr(path)",
        'ds.channel_mean.sel(unit=ds.unit_layer == "conv2")  # the images x units of one layer',
        'ds.load().channel_mean.groupby("image_class").mean()  # grouping needs loaded coordinates',
        "",
        "# names as plain Python strings, where a reader cannot take numpy's StringDType",
        'text = {name: v.load() for name, v in ds.variables.items() if v.dtype.kind == "T"}',
        "ds = ds.assign_coords({name: v.astype(object) for name, v in text.items()})",
        "```",
        "",
        "Names are stored as Zarr's `string`, which other programs read too. zarr-python returns "
        "numpy's `StringDType` for it. xarray, pandas, polars, pyarrow and scikit-learn take that; "
        "`astype(str)` of numpy does not, until the last two lines above "
        "([why](decisions/0020-what-checksums-cover.md)).",
        "",
        f"It is written shard by shard (up to {layout.SHARD_IMAGES:,} images, fewer where a shard "
        f"would pass {layout.SHARD_BYTES // 2**20} MiB), in chunks of one shard's images by "
        f"{layout.BLOCK_UNITS} columns, each with a crc32c. After a shard is safely on disk its "
        f"receipt `{layout.RECEIPTS}/shard-<n>.json` lists each stored object with its size and the "
        "CRC-32C of its key and each of its blocks of 65,536 bytes (the last four bytes, a chunk's own "
        "crc32c, are noted as they are), and the processor that made it; only receipts count as "
        "progress. "
        f"`{layout.STORE_RECEIPT}` lists the metadata and coordinates, `{layout.FINAL_RECEIPT}` what "
        "is added up over all shards; each receipt ends with a sha256 of itself. Rows of images "
        "that could not be decoded are NaN, and `valid` is false.",
        "",
        "It may lie in a bucket (`--recordings s3://bucket/prefix`, or `ACTIVARIUM_RECORDINGS`): "
        "the same objects under the same keys. A request that fails is tried again for "
        "`ACTIVARIUM_S3_PATIENCE` seconds (120; 10 with a bucket that has not answered yet), each try "
        "for at most `ACTIVARIUM_S3_TIMEOUT` seconds (120).",
        "",
        "## Verify",
        "",
        "`activarium verify` recomputes every checksum of the atlas: of recordings (by receipts), of "
        "tables, maps, models and pages (by the sha256 in `checksums/`, which `sha256sum --check` "
        "reads). It names each damaged object with what makes it anew, and each file that no checksum "
        "covers; `datasets/`, `work/` and hidden files are left out. `verify RECORDING` looks at the "
        "objects, tables and maps of that recording alone. It may run while others write.",
        "",
        "| exit code | meaning |",
        "|---|---|",
        "| 0 | nothing is damaged or unfinished |",
        "| 1 | something is damaged |",
        "| 2 | there is nothing to verify, or it cannot be read |",
        "| 3 | nothing is damaged, but a recording or a training is not finished |",
        "",
        "What an earlier version wrote is read as before and listed as checked less: its receipts say "
        "nothing of two chunks of up to 65,536 bytes in each other's places, and its models and pages "
        "have no checksum. A training, and a recording of its checkpoints, refuses a file in `models/` "
        "whose content differs from its sha256.",
        "",
        "## Contents",
        "",
        "The store's attributes hold `status` (recording or complete), the `fingerprint` of "
        "everything the recording depends on, and its provenance: model, checkpoint, sha256 of the "
        "weights and of the images, preprocessing, precision, versions.",
        "",
        "A recording of draws (`<model>-untrained-<R>-draws-...`) holds R untrained networks over one sample "
        "of images: row `draw * n + i` is image i of the n under a draw, its id is "
        "`draw-<draw>/<id in the test set>`, and a shard is one draw. Its attributes add `draws`, "
        "`draw_seeds` and `sampled_from_sha256`, the identity of the whole test set. It keeps means of "
        "channels and the outputs alone.",
        "",
        "| array | dimensions | type | written | what it holds |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {spec.name} | {', '.join(spec.dimensions)} | {spec.dtype} | "
        f"{WRITTEN[spec.phase]} | {spec.description} |"
        for spec in layout.ARRAYS
    ]
    lines += [
        "",
        "`logits` has the dimension `class` where the model has one output per class. The channel "
        "reductions other than the mean, the pooled features and the thumbnails are there as "
        "configured (`record.reductions`, `record.pooled_layers`, `record.thumbnail`).",
    ]
    return "\n".join(lines) + "\n"


SECTIONS: dict[str, type[config.Config]] = {
    "test_set": config.TestSetConfig,
    "preprocessing": config.PreprocessingConfig,
    "model": config.ModelConfig,
    "training": config.TrainingConfig,
    "record": config.RecordConfig,
    "untrained": config.UntrainedConfig,
    "analyse": config.AnalyseConfig,
    "embed": config.EmbedConfig,
    "report": config.ReportConfig,
}


def configuration_page() -> str:
    """Return docs/configuration.md."""
    lines = [
        "# Configuration",
        GENERATED,
        "",
        "A run is a YAML file with these sections (see `examples/`); `name` names the report, and "
        "`controls` (default `[untrained, shuffle]`) lists what stands beside the model: untrained networks "
        "(section `untrained`, and one of them over all images), and the statistics of permuted labels. On the command "
        "line `--set section.key=value` overrides one setting. Relative paths in the file are "
        "relative to the file; on the command line, to the current folder. An unknown setting is an "
        "error.",
        "",
    ]
    for name, section in SECTIONS.items():
        lines += [f"## {name}", "", str(section.__doc__).splitlines()[0], ""]
        lines += ["| setting | values | default | what it does |", "|---|---|---|---|"]
        described = section.model_json_schema()
        for key, field in section.model_fields.items():
            default = "needed" if field.is_required() else _shown(field.default)
            text = " ".join((field.description or "").split())
            values = _values(described["properties"][key])
            lines.append(f"| {key} | {values} | {default} | {text} |")
        lines.append("")
    return "\n".join(lines)


KINDS_OF_VALUE = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "object": "mapping",
    "boolean": "true, false",
}
"""What a type of JSON Schema is called."""
BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}
"""What a bound of JSON Schema is called."""


def _values(schema: dict[str, Any]) -> str:
    """Return which values a setting takes, from its JSON Schema; null, as for no value, is left out."""
    if "anyOf" in schema:
        return " or ".join(_values(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(str(each) for each in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_values(schema['items'])}"
    bounds = [f"{word} {schema[key]:,}" for key, word in BOUNDS.items() if key in schema]
    kind = "path" if schema.get("format") == "path" else KINDS_OF_VALUE[schema["type"]]
    return " ".join([kind, *bounds])


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(str(each) for each in value)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


PAGES = {
    "tables.md": tables_page,
    "recording.md": recording_page,
    "configuration.md": configuration_page,
}


def main() -> None:
    """Write the pages into a folder, or fail where one is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder docs/")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if stale")
    arguments = parser.parse_args()
    stale = []
    for name, page in PAGES.items():
        path, text = arguments.folder / name, page()
        if arguments.check:
            if not path.is_file() or path.read_text("utf-8") != text:
                stale.append(str(path))
        else:
            path.write_text(text, "utf-8")
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}; run `make docs`")


if __name__ == "__main__":
    main()
