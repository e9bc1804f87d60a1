from lakehouse_tests.pipeline.own import make_stream, shared_lake

__all__ = ["make_stream", "shared_lake"]
