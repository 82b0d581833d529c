"""Doctor: examine this machine, and name the command that mends what does not work.

::

    findings = judge(gather())
    print(describe(findings))

``gather`` asks the machine for facts; ``judge`` uses nothing but facts, so that a test can judge
any machine.
"""

from worldmodel.doctor.findings import describe as describe
from worldmodel.doctor.findings import works as works
from worldmodel.doctor.judgement import judge as judge
from worldmodel.doctor.survey import gather as gather
