"""Doctor: examine this machine, and name a command to repair each part that does not work.

::

    findings = judge(gather())
    print(describe(findings))

``gather`` collects the facts of this machine; ``judge`` uses only these facts, so that a test can
describe any machine.
"""

from worldmodel.doctor.findings import describe as describe
from worldmodel.doctor.findings import works as works
from worldmodel.doctor.judgement import judge as judge
from worldmodel.doctor.survey import gather as gather
