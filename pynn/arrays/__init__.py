"""Arrays in memory: aligned vectors, sparse rows, fingerprints, reused scratch memory."""
