"""Benchmarks: each measures one thing and, in the same run, its baseline."""

from worldmodel.bench.deadline import bench_deadline as bench_deadline
from worldmodel.bench.measure import Effort as Effort
from worldmodel.bench.measure import Table as Table
from worldmodel.bench.measure import describe as describe
from worldmodel.bench.plan import bench_plan as bench_plan
from worldmodel.bench.plan import bench_quality as bench_quality
from worldmodel.bench.render import bench_render as bench_render
from worldmodel.bench.replay import bench_replay as bench_replay
from worldmodel.bench.train import bench_train as bench_train
