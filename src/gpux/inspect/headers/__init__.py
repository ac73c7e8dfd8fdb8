"""Headers of weight files, read with ranged reads: no weights are downloaded, loaded or executed."""
