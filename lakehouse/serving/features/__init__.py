"""Features at a point in time, for training sets and for requests over HTTP. See `pipeline.point_in_time` for their SQL."""
