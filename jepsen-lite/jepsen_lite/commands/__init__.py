"""The subcommands of `jepsen-lite`."""
