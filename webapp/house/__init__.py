"""The processes of one machine: supervisor, doctor, install, Redis, and limits on connections and request bodies."""
