"""The trusted scorer. What it is known by, ``identity.scorer_sha256``, is the hash of this folder."""
