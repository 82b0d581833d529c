"""Examines this machine: what works, and the line to type where something does not.

::

    findings = judge(gather())
    print(describe(findings))

Gathering asks; judging only thinks, so that any machine can be made up in a test.
"""

from worldmodel.doctor.findings import describe as describe
from worldmodel.doctor.findings import works as works
from worldmodel.doctor.judgement import judge as judge
from worldmodel.doctor.survey import gather as gather
