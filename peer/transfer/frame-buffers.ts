import { FRAME_HEADROOM } from './outgoing.ts'

/** Bytes of buffers of each size that are kept for later. */
const SPARE_BYTES = 8 * 1024 * 1024

/** Buffers for frames with their headroom, used again and again: small ones, and large ones for quick takers. */
export class FrameBuffers {
  /** bytes of data in a small frame, and in a large one */
  readonly small: number
  readonly large: number
  readonly #spare = new Map<number, Buffer[]>()

  constructor(large: number) {
    this.large = large
    this.small = Math.min(large, 128 * 1024)
  }

  /** A buffer for so many bytes, or more. */
  take(bytes: number): Buffer {
    const size = bytes <= this.small ? this.small : this.large
    return this.#spare.get(size)?.pop() ?? Buffer.allocUnsafeSlow(FRAME_HEADROOM + size)
  }

  give(buffer: Buffer): void {
    const size = buffer.length - FRAME_HEADROOM
    const spare = this.#spare.get(size) ?? []
    this.#spare.set(size, spare)
    if (spare.length * size < SPARE_BYTES) spare.push(buffer)
  }
}
