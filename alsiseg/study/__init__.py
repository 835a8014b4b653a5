"""The evidence: train every weight setting with several seeds under every condition, test on unseen specimens.

`plan` fixes what is compared, `running` does it and goes on where it was stopped, `rows` is the tidy table that
it leaves, `answers` reads from it which settings differ,
`judging` what is judged training by training. ``python -m alsiseg.study`` does all of it.
"""

from alsiseg.study.answers import Answer, Estimate, answer, estimate, table
from alsiseg.study.judging import verdict_table, verdicts
from alsiseg.study.plan import RECIPES, UNSEEN_SEED, Condition, Study
from alsiseg.study.rows import Row, read
from alsiseg.study.running import run

__all__ = [
    "RECIPES",
    "UNSEEN_SEED",
    "Answer",
    "Condition",
    "Estimate",
    "Row",
    "Study",
    "answer",
    "estimate",
    "read",
    "run",
    "table",
    "verdict_table",
    "verdicts",
]
