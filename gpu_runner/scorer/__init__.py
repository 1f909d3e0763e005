"""The trusted scorer. ``identity.scorer_sha256``, the hash of this folder, stands on every score."""
