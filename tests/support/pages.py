"""What pages are made of: results, an audit, an advice and divergences."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hanpaca.evals.comparison import ComparedRun
from hanpaca.evals.divergence import Divergence
from hanpaca.evals.results import RunResult, Sample, read_results
from hanpaca.tokenizer.advice.curve import CurvePoint, LengthCurve
from hanpaca.tokenizer.advice.speed import ParameterCounts
from hanpaca.tokenizer.advice.weigh import Advice, MeasuredSpeeds, weigh
from hanpaca.tokenizer.audits.audit import Audit
from hanpaca.tokenizer.audits.changes import ChangedStretch
from hanpaca.tokenizer.audits.corpus_audit import CorpusAudit, ScriptLength
from hanpaca.tokenizer.conversion.ties import Ties

QUICKSTART = Path(__file__).parents[2] / "benchmarks/results/quickstart.json"


def quickstart() -> RunResult:
    """The stored results of a whole run, with files of the final model side by side."""
    found = read_results(QUICKSTART)
    return replace(
        found,
        models=tuple(
            replace(one, file_type=one.file_type or one.name.partition(" ")[2] or "f16")
            if one.name.startswith("chat")
            else one
            for one in found.models
        ),
    )


def in_language(result: RunResult, tag: str) -> RunResult:
    """The same numbers as those of a run of another language."""
    first, *others = result.languages
    models = tuple(
        replace(
            one,
            measured={tag if key == first else key: value for key, value in one.measured.items()},
            samples=tuple(Sample(each.prompt, each.answer) for each in one.samples),
        )
        for one in result.models
    )
    curves = tuple(replace(one, language=tag) for one in result.curves)
    return replace(result, languages=(tag, *others), models=models, curves=curves)


def compared() -> tuple[ComparedRun, ...]:
    """Two runs that differ in settings and numbers."""
    first = quickstart()
    shorter = tuple(
        replace(
            one,
            name=one.name,
            samples=tuple(Sample(each.prompt, each.answer[::-1]) for each in one.samples),
        )
        for one in first.models
    )
    settings = {"pretrain.num_tokens": "38912", "sft.template": "chatml"}
    other = settings | {"pretrain.num_tokens": "400000"}
    sources = {"05-data/text.jsonl": "d5" * 32}
    return (
        ComparedRun("quickstart", first, settings, sources, {"zh": "1" * 64}),
        ComparedRun("longer", replace(first, models=shorter), other, sources, {"zh": "1" * 64}),
    )


def an_audit() -> Audit:
    """An extension with every kind of defect."""
    lengths = (ScriptLength("Han", 9_000, 18_000, 9_500), ScriptLength("Latin", 400, 120, 119))
    changes = (
        ChangedStretch(("▁the", "▁dog"), ("▁thedog",), 12, "over the lazy dog"),
        ChangedStretch(("\n", "\n"), ("\n\n",), 3, "one\n\ntwo"),
    )
    corpus = CorpusAudit(
        name="a corpus with a long name",
        protected=False,
        num_texts=300,
        num_characters=10_000,
        num_tokens_before=19_000,
        num_tokens_after=10_000,
        scripts=lengths,
        num_changed=290,
        num_changed_without_target=0,
        changes=(),
        num_recut=1,
        recut=("白日依山尽" * 40,),
        num_lossy_before=0,
        num_lossy_after=2,
        num_misread=2,
        misread=("ab\tcd", "x" * 300),
        num_engine_dependent=1,
        engine_dependent=("欲穷千里目",),
    )
    english = replace(
        corpus, name="en", protected=True, num_changed=15, changes=changes, scripts=lengths[1:]
    )
    return Audit(
        scripts=("Han",),
        same_family=True,
        num_pieces_before=32_000,
        num_pieces_after=49_953,
        num_new_pieces=17_953,
        moved_entries=(),
        dead_pieces=("死", "▁白日依山尽黄河入海流", "x" * 200),
        killed_pieces=("▁the",),
        unused_pieces=tuple(f"词{number}" for number in range(400)),
        junk={"mixed scripts": ("白a", "日b"), "one character": ("尽",)},
        ties_before=Ties(0, 0, ()),
        ties_after=Ties(17_953, 2, ("尽头", "流水")),
        corpora=(corpus, english),
    )


def an_advice(*, worthwhile: bool = True, speeds: bool = True) -> Advice:
    """Sizes up to twenty thousand, weighed for a model of a hundred million parameters."""
    after = (2.1, 1.6, 1.4, 1.25, 1.12, 1.02, 0.93, 0.88) if worthwhile else (1.0, 0.99, 0.98)
    sizes = (0, 250, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
    points = tuple(
        CurvePoint(size, length, length + 0.1, size * 41_234)
        for size, length in zip(sizes, after, strict=False)
    )
    curve = LengthCurve(points, 32_000, 5_000_000, 250_000)
    counts = ParameterCounts(49_152, 576, 106_203_456, is_tied=True)
    return weigh(curve, counts, MeasuredSpeeds(900.0, 40.0) if speeds else None)


def divergences(kinds: Sequence[str] = ()) -> list[Divergence]:
    """Ten file types of one model, some nearly alike, after the model itself."""
    kinds = kinds or (
        *("q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0"),
        *("q4_k_m", "q4_k_s", "q4_1", "q4_0"),
    )
    found = [
        Divergence("a-model-with-a-long-name.f16.gguf", 270_000_000, 0.0, None, 1.0, 2.0, 4_096)
    ]
    for place, kind in enumerate(kinds):
        kl = 0.0004 * 1.9**place
        found.append(
            Divergence(
                f"a-model-with-a-long-name.{kind}.gguf",
                145_000_000 - 6_000_000 * place,
                kl,
                (0.9 * kl, 1.15 * kl),
                0.99 - 0.01 * place,
                2.0 + kl,
                4_096,
            )
        )
    return found
