from lakehouse_tests.pipeline.own import shared_lake

__all__ = ["shared_lake"]
