"""Names that every byte count and every energy row uses: streams of data and events of units. One list each."""

from __future__ import annotations

from enum import StrEnum


class Stream(StrEnum):
    """What the bytes are that move between DRAM and the chip."""

    CODES = "codes"
    GAPS = "gaps"  # positions of stored entries: relative gaps, or absolute indices in csr
    POINTERS = "pointers"  # where runs begin: entry counts
    CODE_TABLES = "code_tables"
    CHUNK_TABLES = "chunk_tables"
    CODEBOOKS = "codebooks"
    BIASES = "biases"
    WEIGHTS = "weights"  # uncoded values
    ACTIVATIONS = "activations"
    PARTIAL_SUMS = "partial_sums"
    OUTPUTS = "outputs"


STREAMS = tuple(Stream)
"""In order, which is how arrays index them."""


class Event(StrEnum):
    """What a unit does that costs energy, once per count."""

    ROW_ACTIVATE = "row_activate"
    ROW_PRECHARGE = "row_precharge"
    DRAM_READ = "dram_read"  # one burst
    DRAM_WRITE = "dram_write"  # one burst
    REFRESH_ALL_BANK = "refresh_all_bank"
    REFRESH_PER_BANK = "refresh_per_bank"
    DMA_REQUEST = "dma_request"
    SRAM_READ = "sram_read"  # one word
    SRAM_WRITE = "sram_write"  # one word
    POINTER_READ = "pointer_read"  # one pointer out of a memory of its own
    TABLE_WRITE = "table_write"  # one entry of a decode table or codebook
    SYMBOL_DECODE = "symbol_decode"  # one gap or one code out of a Huffman stream
    DECODE_STEP = "decode_step"  # one code bit (bit-serial) or one look-up of several symbols (multi-symbol)
    BUFFER_REFILL = "buffer_refill"  # one window of coded bits into a decoder's bit buffer
    CODEBOOK_LOOKUP = "codebook_lookup"
    INDEX_ACCUMULATE = "index_accumulate"  # one gap added to a running position
    QUEUE_WRITE = "queue_write"  # one item into a queue in front of a processing element
    QUEUE_READ = "queue_read"
    ARRAY_TRANSFER = "array_transfer"  # one bit over the array's wires, to one processing element or broadcast
    BROADCAST_TAKE = "broadcast_take"  # one bit of a broadcast taken by one processing element
    MAC = "mac"  # one multiply-accumulate in one lane
    ACCUMULATOR_ACCESS = "accumulator_access"  # one read-modify-write of a lane's accumulator
    VECTOR_OPERATION = "vector_operation"  # one value through the output path: bias, activation, pooling
