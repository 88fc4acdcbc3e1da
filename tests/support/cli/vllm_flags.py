"""vLLM's own parser of its server's flags."""

from argparse import ArgumentParser


def vllm_parser() -> ArgumentParser:
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    try:
        from vllm.entrypoints.common.cli_args import make_arg_parser
    except ImportError:  # until vLLM 0.32
        from vllm.entrypoints.launchers.cli_args import make_arg_parser

    return make_arg_parser(FlexibleArgumentParser())
