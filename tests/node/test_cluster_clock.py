from raftkv.node.clocks import ClusterClock


def test_cluster_time_goes_on_from_the_log_and_stands_still_in_an_outage() -> None:
    clock = ClusterClock()
    clock.start(applied_time_ms=5_000, now_s=1_000_000.0)
    assert clock.stamp_ms(1_000_000.25) == 5_250


def test_a_clock_that_goes_back_does_not_take_cluster_time_with_it() -> None:
    clock = ClusterClock()
    clock.start(applied_time_ms=5_000, now_s=100.0)
    assert clock.stamp_ms(101.0) == 6_000
    assert clock.stamp_ms(90.0) == 6_000
    assert clock.read_ms(101.5) == 6_500


def test_a_bare_stamp_is_due_when_a_lease_ends_and_twice_a_second_while_one_runs() -> None:
    clock = ClusterClock()
    clock.start(applied_time_ms=5_000, now_s=100.0)
    assert not clock.stamp_is_due(None, 200.0), "no lease runs"
    assert not clock.stamp_is_due(9_000, 100.499)
    assert clock.stamp_is_due(9_000, 100.5)
    assert not clock.stamp_is_due(5_201, 100.2)
    assert clock.stamp_is_due(5_200, 100.2)
    clock.stamp_ms(100.2)
    assert not clock.stamp_is_due(5_200, 100.3), "its end has a stamp"
    assert not clock.stamp_is_due(9_000, 100.699)
    assert clock.stamp_is_due(9_000, 100.7)
