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
