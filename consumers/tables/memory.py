"""What RocksDB may keep in memory for the shards of one node, and how it is set up."""

import resource
from typing import Final

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    WriteBufferManager,
)

__all__ = ["StoreMemory", "store_options"]

# What a shard collects in memory before it becomes a file; less where many shards do.
_MOST_BUFFERED: Final = 16 * 1024 * 1024
_LEAST_BUFFERED: Final = 1024 * 1024
_SHARES: Final = 4
# Beyond what the shards' rows may take in memory, what is on its way to the disk.
_ON_ITS_WAY: Final = 2
# Of the files that the process may open, half are the tables'.
_FILE_SHARE: Final = 2
_FEWEST_FILES: Final = 32
_FILE_BYTES: Final = 16 * 1024 * 1024


class StoreMemory:
    """Memory that the shards of one node share.

    Args:
        cache_bytes: for blocks that were read.
        write_bytes: for rows that are not in files yet, beyond that whoever writes writes out; a
            megabyte a shard if that is more.
        shards: how many there may be.

    Attributes:
        buffer_bytes: what one of them collects before it writes out.
        open_files: how many files one of them keeps open; -1 for all. Others are opened anew when
            they are read.
    """

    def __init__(self, cache_bytes: int, write_bytes: int, shards: int = 1) -> None:
        self.cache = Cache(cache_bytes)
        self.buffer_bytes = min(
            _MOST_BUFFERED, max(_LEAST_BUFFERED, _SHARES * write_bytes // shards)
        )
        write_bytes = max(write_bytes, shards * _LEAST_BUFFERED)
        self.writes = WriteBufferManager(write_bytes, allow_stall=False)
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.open_files = -1
        if allowed != resource.RLIM_INFINITY:
            self.open_files = max(_FEWEST_FILES, allowed // _FILE_SHARE // shards)
        self._most = (1 + _ON_ITS_WAY) * write_bytes

    @property
    def full(self) -> bool:
        """Whether whoever waits for the disk may take nothing more."""
        used: int = self.writes.get_usage()
        return used >= self._most


def store_options(memory: StoreMemory) -> Options:
    """Return RocksDB's options for the store of one shard."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(memory.buffer_bytes)
    options.set_write_buffer_manager(memory.writes)
    # A write waits for nobody: files are written in the background. Where that is too far behind,
    # nothing is written: see `until_writable`.
    options.set_max_write_buffer_number(8)
    options.set_level_zero_slowdown_writes_trigger(40)
    options.set_level_zero_stop_writes_trigger(80)
    # Most writes look for an item that is not there.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.1)
    options.set_max_background_jobs(2)
    options.set_max_open_files(memory.open_files)
    # The log is on the same disk, most likely: its syncs wait while that of a whole file goes on.
    options.set_target_file_size_base(_FILE_BYTES)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(memory.cache)
    blocks.set_bloom_filter(10, False)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_format_version(5)
    options.set_block_based_table_factory(blocks)
    return options
