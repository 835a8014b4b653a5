"""The evidence: train every weight setting with several seeds under every condition, test on unseen specimens.

`plan` fixes what is compared, `running` does it and goes on where it was stopped, `rows` is the tidy table that
it leaves. `scores` makes one number of a training, `answers` and `judging` answer the claims from them, `effects`
holds labels beside weights, and `report` writes it all down. ``python -m alsiseg.study`` does all of it;
``python -m alsiseg.study.sweep`` maps the scores over the weights.
"""

from alsiseg.study.answers import Answer, Estimate, answer, estimate
from alsiseg.study.effects import Effects, effects
from alsiseg.study.plan import RECIPES, UNSEEN_SEED, Condition, Study
from alsiseg.study.report import Evidence, evidence, summaries, summary, write_report
from alsiseg.study.rows import Row, read
from alsiseg.study.running import run
from alsiseg.study.scores import SCORES, Place, Score

__all__ = [
    "RECIPES",
    "SCORES",
    "UNSEEN_SEED",
    "Answer",
    "Condition",
    "Effects",
    "Estimate",
    "Evidence",
    "Place",
    "Row",
    "Score",
    "Study",
    "answer",
    "effects",
    "estimate",
    "evidence",
    "read",
    "run",
    "summaries",
    "summary",
    "write_report",
]
