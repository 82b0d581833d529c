"""Doctor: examine this machine, and name a command to repair each part that does not work.

::

    for facts in gather():  # more of them after each probe
        findings = judge(facts)
    print(describe(findings))

``gather`` collects the facts of this machine; ``judge`` uses only these facts, so that a test can
describe any machine.
"""

from worldmodel.doctor.findings import Finding as Finding
from worldmodel.doctor.findings import conclude as conclude
from worldmodel.doctor.findings import describe as describe
from worldmodel.doctor.findings import line_of as line_of
from worldmodel.doctor.findings import works as works
from worldmodel.doctor.judgement import judge as judge
from worldmodel.doctor.survey import gather as gather
