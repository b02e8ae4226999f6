"""Bars are judged by medians of the rounds, and say what was not measured and what was wrong."""

from __future__ import annotations

from bench.bars import Facts, Report, Verdict, bars, case_of, goals
from bench.cases import CASES
from bench.figures import Moment
from bench.load import Seen
from bench.measure import Memory, Result
from bench.profile import owner
from bench.report import added, cpu, rest, seen, wrong
from bench.soak import BOUNDS, KINDS, WARM_LEGS, growth


def result(surface: str, group: str, number: int, cpu_us: float, first_p99: float = 1.0, **errors: int) -> Result:
    case = case_of(group)
    came = Seen(
        n=10, seconds=2.0, tokens=10 * case.tokens, first_p50=1.0, first_p99=first_p99, p50=2.0, p99=3.0, errors=errors,
        cpu=0.1,
    )  # fmt: skip
    return Result(case=case.name, surface=surface, round=number, seen=came, cpu_us=cpu_us, cpu_by={}, steal=0.0)


def report(*results: Result, server_mb: float = 120.0, start: tuple[float, ...] = (0.5, 9.0, 0.6)) -> Report:
    idle = Memory(server=server_mb, all=200.0)
    facts = Facts(peer="dragoman", start=list(start), idle=idle, peak=idle, after=idle)
    return Report(
        date="2026-01-01", cpu="x", cores=2, versions={}, rounds=3, took=1.0, facts=[facts], results=list(results)
    )


def words(found: list[Verdict]) -> dict[str, str]:
    return {f"{each.case}: {each.what}": each.word for each in found}


def test_a_ratio_is_of_the_medians() -> None:
    """One disturbed round changes nothing."""
    ours = [result("rest", "unary-32", number, us) for number, us in enumerate((500.0, 9000.0, 520.0))]
    theirs = [result("mlflow", "unary-32", number, us) for number, us in enumerate((600.0, 10.0, 600.0))]
    judged = words(bars(report(*ours, *theirs)))
    assert judged["unary, 32 callers: rest : mlflow"] == "held"
    assert judged["unary, 32 callers: rest : portkey"] == "not measured"
    dearer = [result("rest", "unary-32", number, 541.0) for number in range(3)]
    assert words(bars(report(*dearer, *theirs)))["unary, 32 callers: rest : mlflow"] == "NOT HELD"


def test_the_first_token_is_judged_beside_the_provider_in_the_same_round() -> None:
    direct = [result("direct", "paced-500", number, 0.0, first) for number, first in enumerate((1.0, 900.0, 1.0))]
    ours = [result("rest", "paced-500", number, 1.0, first) for number, first in enumerate((480.0, 1390.0, 700.0))]
    name = "paced 20 ms, 500 callers: rest: first token later than the provider's, p99"
    assert words(bars(report(*direct, *ours)))[name] == "held"  # 479, 490, 699
    assert words(bars(report(*direct[:1], *ours[2:])))[name] == "not measured"
    assert words(bars(report(direct[0], *[result("rest", "paced-500", 0, 1.0, 502.0)])))[name] == "NOT HELD"


def test_one_wrong_answer_of_ours_is_a_bar_that_does_not_hold() -> None:
    fine = result("rest", "paced-500", 0, 1.0)
    name = "all: our calls without a right answer"
    assert words(bars(report(fine, result("litellm", "unary-1", 0, 1.0, truncated=4))))[name] == "held"
    bad = report(fine, result("openai", "unary-1", 2, 1.0, truncated=4))
    assert words(bars(bad))[name] == "NOT HELD"
    assert wrong(bad) == ["unary, 1 callers, openai, round 2: 4 x truncated"]


def test_memory_and_start_up_are_bars() -> None:
    names = [f"at rest: {what}" for what in ("memory of the server process, idle", "start to first answer")]
    held, broken = words(bars(report())), words(bars(report(server_mb=151.0, start=(1.4, 1.6, 1.6))))
    assert [held[name] for name in names] == ["held", "held"]
    assert [broken[name] for name in names] == ["NOT HELD", "NOT HELD"]


def test_a_run_of_some_peers_has_all_tables() -> None:
    some = report(
        result("direct", "burst-32", 0, 0.0), result("grpc", "burst-32", 0, 5.0), result("rest", "prompt-1", 0, 9.0)
    )
    assert cpu(some).rows == [
        ["unary, prompt of 1 KB", "call", "", "9.0"],
        ["burst of 200, 32 callers", "event", "5.0", ""],
    ]
    assert [len(table(some).rows) for table in (seen, added, rest)] == [2, 1, 1]
    assert {each.word for each in goals(some)} == {"not measured"}


def test_no_two_cases_share_a_name() -> None:
    assert len({case.name for case in CASES}) == len({case.group for case in CASES}) == len(CASES)


def test_a_sample_belongs_to_the_kernel_or_to_the_innermost_known_frame() -> None:
    base = "run (<frozen runpy>:1);loop (/x/uvloop/loop.pyx:2);handle (/x/server/rpc/llm.py:3)"
    assert owner(base) == "server/rpc"
    assert owner(f"{base};dict_get (/usr/bin/python3.11)") == "server/rpc"
    assert owner(f"{base};parse (/x/httptools/parser/parser.pyx:1)") == "httptools"
    assert owner(f"{base};write (/usr/lib/libc.so.6)") == "the kernel (write, read, epoll)"


def test_a_soak_compares_the_end_with_the_end_of_the_warm_up() -> None:
    def moment(leg: int) -> Moment:
        grown = 50.0 if leg < WARM_LEGS else 50.0 + leg
        return Moment(
            calls=leg,
            seconds=1.0,
            server_rss=grown,
            server_pss=1.0,
            envoy_rss=1.0,
            server_fds=leg,
            envoy_fds=1,
            tasks=9,
        )

    found = growth([moment(leg) for leg in range(WARM_LEGS + 11)])
    assert found.keys() == BOUNDS.keys()
    assert found["server RSS, MB"] == found["server's files"] == 10.0
    assert found["tasks"] == 0.0


def test_the_kinds_of_a_soak_make_a_hundred() -> None:
    assert sum(kind.share for kind in KINDS) == 100
