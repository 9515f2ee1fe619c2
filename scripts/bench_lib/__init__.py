"""Side-by-side benchmark of raftkv and etcd. Reading order: cluster, load, experiments, report.

`cluster.py` says what a system under test is; `etcd_*` and `raftkv_*` are the two systems.
`load.py` is one process of the load generator, `generator.py` drives several. The experiments
(`throughput`, `security`, `failover`, `growth`) produce the values of `results.py`, and `report.py`
and `plot.py` show them.
"""
