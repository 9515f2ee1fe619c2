"""The subcommands of `jepsen-lite`: what they are asked, and how they answer."""
