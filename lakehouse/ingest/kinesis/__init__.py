"""Reading Kinesis data streams into landing, each record once, whatever crashes. What the events mean is not known here."""
