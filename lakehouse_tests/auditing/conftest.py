from lakehouse_tests.pipeline.own import make_shared_stream, make_stream, shared_lake

__all__ = ["make_shared_stream", "make_stream", "shared_lake"]
