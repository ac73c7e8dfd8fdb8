"""Files of inputs answered into files of answers: read in rows, written row by row, continued after a stop."""
