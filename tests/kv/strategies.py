"""Random commands over few keys and leases, so that commands conflict."""

from __future__ import annotations

from hypothesis import strategies as st

from raftkv.rpc.v1 import auth_pb2 as auth
from raftkv.rpc.v1 import kv_pb2 as pb

from .harness import batch, transaction

KEYS = st.sampled_from([b"a", b"a\x00", b"b", b"b\xff", b"c"])
RANGE_ENDS = KEYS | st.sampled_from([b"", b"\x00", b"d"])
VALUES = st.sampled_from([b"", b"1", b"2"])
LEASES = st.integers(1, 3)
REVISIONS = st.integers(-1, 12)
TIMES = st.sampled_from([0, 1, 500, 1_000, 1_500, 2_500])
"""Lifetimes, and what passes between two entries: some entries come exactly at a deadline."""
FLAG = st.sampled_from([False, False, False, True])

PUTS = st.builds(
    lambda **fields: pb.Command(put=pb.Put(**fields)),
    key=KEYS,
    value=VALUES,
    lease=st.just(0) | LEASES,
    prev_kv=FLAG,
    ignore_value=FLAG,
    ignore_lease=FLAG,
)
DELETES = st.builds(
    lambda **fields: pb.Command(delete_range=pb.DeleteRange(**fields)),
    key=KEYS,
    range_end=RANGE_ENDS,
    prev_kv=FLAG,
    limit=st.just(0) | st.integers(0, 3),
)
RANGES = st.builds(
    pb.Range,
    key=KEYS,
    range_end=RANGE_ENDS,
    revision=st.just(0) | REVISIONS,
    limit=st.integers(0, 3),
    sort_order=st.integers(0, 2),
    sort_target=st.integers(0, 4),
    keys_only=FLAG,
    count_only=FLAG,
    min_mod_revision=st.just(0) | REVISIONS,
    max_mod_revision=st.just(0) | st.integers(1, 12),
    min_create_revision=st.just(0) | REVISIONS,
)
EXPECTED = st.one_of(
    st.fixed_dictionaries({"absent": st.booleans()}),
    st.fixed_dictionaries({"value": VALUES}),
    st.fixed_dictionaries({"mod_revision": REVISIONS}),
)
SWAPS = st.builds(
    lambda expected, **fields: pb.Command(compare_and_swap=pb.CompareAndSwap(**expected, **fields)),
    EXPECTED,
    key=KEYS,
    new_value=VALUES,
    lease=st.just(0) | LEASES,
)
TARGETS = st.one_of(
    st.fixed_dictionaries({name: REVISIONS})
    for name in ("version", "create_revision", "mod_revision", "lease")
) | st.fixed_dictionaries({"value": VALUES})
COMPARES = st.builds(
    lambda target, **fields: pb.Compare(**target, **fields),
    TARGETS,
    key=KEYS,
    range_end=RANGE_ENDS,
    result=st.integers(0, 3),
)
TRANSACTIONS = st.recursive(
    st.builds(
        transaction,
        *[
            st.lists(each, max_size=3)
            for each in (COMPARES, PUTS | DELETES | RANGES, PUTS | DELETES | RANGES)
        ],
    ),
    lambda nested: st.builds(
        transaction,
        st.lists(COMPARES, max_size=2),
        st.lists(PUTS | RANGES | nested, max_size=3),
        st.lists(DELETES | nested, max_size=2),
    ),
    max_leaves=3,
)
COMPACTIONS = st.builds(
    lambda revision: pb.Command(compact=pb.Compact(revision=revision)), REVISIONS
)
OTHERS = st.one_of(
    st.builds(
        lambda lease, ttl_ms: pb.Command(lease_grant=pb.LeaseGrant(lease=lease, ttl_ms=ttl_ms)),
        LEASES,
        TIMES,
    ),
    st.builds(lambda lease: pb.Command(lease_renew=pb.LeaseRenew(lease=lease)), LEASES),
    st.builds(lambda lease: pb.Command(lease_revoke=pb.LeaseRevoke(lease=lease)), LEASES),
)
KEEP_ALIVES = st.builds(
    lambda leases: pb.Command(lease_keep_alive=pb.LeaseKeepAlive(leases=leases)),
    st.lists(LEASES, max_size=3),
)
LOCKS = st.sampled_from([b"l", b"m"])
ACQUIRES = st.builds(
    lambda **fields: pb.Command(acquire=pb.Acquire(**fields)),
    name=LOCKS,
    lease=st.just(0) | LEASES,
    ttl_ms=TIMES,
    value=VALUES,
    only_if_free=st.booleans(),
)
RELEASES = st.builds(
    lambda name, **fields: pb.Command(
        delete_range=pb.DeleteRange(key=name + b"/", range_end=name + b"0", **fields)
    ),
    LOCKS,
    prev_kv=FLAG,
    limit=st.integers(0, 2),
)
FENCED_PUTS = st.builds(
    lambda key, name, token: pb.Command(
        put=pb.Put(key=key), fences=[pb.Fence(name=name, token=token)]
    ),
    KEYS,
    LOCKS,
    st.integers(0, 12),
)
COMMANDS = st.one_of(
    PUTS,
    PUTS,
    DELETES,
    SWAPS,
    COMPACTIONS,
    COMPACTIONS,
    KEEP_ALIVES,
    ACQUIRES,
    RELEASES,
    FENCED_PUTS,
    st.builds(lambda each: pb.Command(transaction=each), TRANSACTIONS),
    OTHERS,
)

PERHAPS_NAMED = st.builds(
    lambda command, name, ttl_ms: pb.Command.FromString(
        command.SerializeToString()
        + pb.Command(idempotency_key=name, idempotency_ttl_ms=ttl_ms).SerializeToString()
    ),
    COMMANDS,
    st.sampled_from([b"", b"i", b"j"]),
    TIMES,
)
BATCHES = st.builds(
    lambda commands, session, sequence, behind: batch(
        *commands, session=session, sequence=sequence, acknowledged=max(sequence - behind, 0)
    ),
    st.lists(PERHAPS_NAMED, max_size=4),
    st.just(0) | LEASES,
    st.integers(1, 6),
    st.integers(1, 6),
)

# ---- users and roles -------------------------------------------------------------------

USERS = st.sampled_from(["root", "a", "b", "a b"])
ROLES = st.sampled_from(["r", "s", "root"])
PERMISSIONS = st.builds(
    auth.Permission,
    access=st.integers(0, 3) | st.just(3),
    key=KEYS | LOCKS | st.just(b""),
    range_end=RANGE_ENDS | st.just(b"n"),
)
ADMIN_RIGHTS = st.integers(0, 4)
RIGHTS = st.fixed_dictionaries({"permission": PERMISSIONS}) | st.fixed_dictionaries(
    {"admin_right": ADMIN_RIGHTS}
)
SECRETS = st.sampled_from([b"k" * 32, b"l" * 32, b"short"])
TOKEN_IDS = st.sampled_from([b"", b"1", b"2"])
AUTH_COMMANDS = st.one_of(
    st.builds(
        lambda kind, name: auth.AuthCommand(**{kind: {"name": name}}),
        st.sampled_from(["user_add", "user_delete"]),
        USERS,
    ),
    st.builds(
        lambda kind, name, role: auth.AuthCommand(**{kind: {"name": name, "role": role}}),
        st.sampled_from(["user_grant_role", "user_revoke_role"]),
        USERS,
        ROLES,
    ),
    st.builds(
        lambda kind, name: auth.AuthCommand(**{kind: {"name": name}}),
        st.sampled_from(["role_add", "role_delete"]),
        ROLES,
    ),
    *(
        st.builds(
            lambda kind, role, right: auth.AuthCommand(**{kind: {"role": role, **right}}),
            st.sampled_from(["role_grant", "role_grant", "role_revoke"]),
            ROLES,
            RIGHTS,
        ),
    )
    * 2,
    st.builds(
        lambda name, hashed: auth.AuthCommand(
            user_set_password=auth.UserSetPassword(name=name, password_hash=hashed)
        ),
        USERS,
        st.sampled_from(["", "x"]),
    ),
    st.builds(
        lambda **fields: auth.AuthCommand(token_create=auth.TokenCreate(**fields)),
        id=TOKEN_IDS,
        user=USERS,
        secret_hash=SECRETS,
        ttl_ms=TIMES,
    ),
    st.builds(
        lambda id: auth.AuthCommand(token_revoke=auth.TokenRevoke(id=id)),
        TOKEN_IDS,
    ),
    st.builds(
        lambda secret, replaced: auth.AuthCommand(
            signing_key_rotate=auth.SigningKeyRotate(secret=secret, replaced=replaced)
        ),
        SECRETS,
        st.integers(0, 2),
    ),
    st.sampled_from(
        [
            auth.AuthCommand(enable=auth.AuthEnable()),
            auth.AuthCommand(disable=auth.AuthDisable()),
            auth.AuthCommand(root_reset=auth.RootReset(password_hash="y")),
            auth.AuthCommand(),
        ]
    ),
)
AUTH_BATCHES = st.builds(
    lambda command, name: batch(pb.Command(auth=command, idempotency_key=name)),
    AUTH_COMMANDS,
    st.sampled_from([b"", b"", b"i"]),
)
"""Nodes make these commands, each in a batch of its own."""
