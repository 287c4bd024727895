/**
 * Header blocks of HTTP/2 (RFC 7541), as far as a client needs them that allows no dynamic table and looks at a few
 * headers only.
 */

export type Headers = ReadonlyMap<string, string>

/** Without compression: a request has a hundred bytes of them, once a conversation. */
export function encodeHeaders(headers: Iterable<readonly [name: string, value: string]>): Buffer {
  const parts: Buffer[] = []
  for (const [name, value] of headers) parts.push(Buffer.of(0), encodeText(name), encodeText(value))
  return Buffer.concat(parts)
}

function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1')
  if (bytes.length < 127) return Buffer.concat([Buffer.of(bytes.length), bytes])
  const length = [127]
  let rest = bytes.length - 127
  for (; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128)
  return Buffer.concat([Buffer.from([...length, rest]), bytes])
}

/** The static table's values of `:status`, from its index 8 on: all of that table that matters here. */
const STATUS = ['200', '204', '206', '304', '400', '404', '500']
const FIRST_STATUS = 8
const STATIC_ENTRIES = 61

/**
 * Headers with a name in the static table, other than `:status`, are left out.
 * @throws Error where the block is broken, or refers to a dynamic table
 */
export function decodeHeaders(block: Buffer): Headers {
  const headers = new Map<string, string>()
  const reader = new BlockReader(block)
  while (!reader.atEnd) {
    const first = block[reader.at]!
    if (first & 0x80) {
      const index = checkedIndex(reader.number(7))
      const status = STATUS[index - FIRST_STATUS]
      if (index === 0) throw new Error('a header without a name')
      if (status) headers.set(':status', status)
    } else if (first & 0x40 || !(first & 0x20)) {
      const index = checkedIndex(reader.number(first & 0x40 ? 6 : 4))
      const name = index === 0 ? reader.text() : STATUS[index - FIRST_STATUS] ? ':status' : ''
      const value = reader.text()
      if (name) headers.set(name, value)
    } else if (reader.number(5) !== 0) throw new Error('a header table that was not allowed')
  }
  return headers
}

function checkedIndex(index: number): number {
  if (index > STATIC_ENTRIES) throw new Error('a header out of a table that was not allowed')
  return index
}

class BlockReader {
  at = 0
  #block: Buffer

  constructor(block: Buffer) {
    this.#block = block
  }

  get atEnd(): boolean {
    return this.at >= this.#block.length
  }

  /** A number whose first byte has `bits` bits of it. */
  number(bits: number): number {
    const most = (1 << bits) - 1
    let value = this.#byte() & most
    if (value < most) return value
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.#byte()
      value += (byte & 127) << shift
      if (byte < 128) return value
    }
    throw new Error('a number too large among the headers')
  }

  text(): string {
    const packed = (this.#block[this.at] ?? 0) & 0x80
    const length = this.number(7)
    const bytes = this.#block.subarray(this.at, this.at + length)
    if (bytes.length < length) throw new Error('headers that end early')
    this.at += length
    return packed ? unpack(bytes) : bytes.toString('latin1')
  }

  #byte(): number {
    const byte = this.#block[this.at++]
    if (byte === undefined) throw new Error('headers that end early')
    return byte
  }
}

/** Bits of each byte's code (RFC 7541, appendix B); the last is the end mark. The codes follow, they are canonical. */
const CODE_LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30,
]
const END_MARK = 256
const LONGEST = 30

/** By length: the first code, and the bytes of that length in the order of their codes. */
const CODES = ((): { first: number; bytes: number[] }[] => {
  const codes: { first: number; bytes: number[] }[] = []
  let next = 0
  for (let length = 0; length <= LONGEST; length++) {
    const bytes = CODE_LENGTHS.flatMap((bits, byte) => (bits === length ? [byte] : []))
    codes.push({ first: next, bytes })
    next = (next + bytes.length) * 2
  }
  return codes
})()

function unpack(packed: Uint8Array): string {
  const bytes: number[] = []
  let code = 0
  let length = 0
  for (const octet of packed)
    for (let bit = 7; bit >= 0; bit--) {
      code = (code << 1) | ((octet >> bit) & 1)
      const { first, bytes: sameLength } = CODES[++length] ?? { first: 0, bytes: [] }
      const byte = code < first + sameLength.length ? sameLength[code - first] : undefined
      if (byte === END_MARK || length > LONGEST) throw new Error('a broken text among the headers')
      if (byte === undefined) continue
      bytes.push(byte)
      code = 0
      length = 0
    }
  if (length > 7 || code !== (1 << length) - 1) throw new Error('a broken text among the headers')
  return Buffer.from(bytes).toString('latin1')
}
