import { NetworkError } from '../../common/errors.ts'
import { LEAF_SIZE, type Manifest, pieceLength } from '../../common/merkle.ts'
import type { Frame } from './source.ts'

export interface WholePiece {
  readonly index: number
  /** its bytes in order; none in a dummy conversation */
  readonly parts: Uint8Array[]
  /** bytes */
  readonly length: number
}

/**
 * Puts one provider's frames together to pieces, and holds the provider to the protocol: pieces in the order they were
 * asked for, frames contiguous, nothing unasked for, nothing too much. Whether the bytes are right is for the hash.
 */
export class PieceAssembler {
  #manifest: Manifest
  #dummy: boolean
  #expected: number[] = []
  #head = 0
  #parts: Uint8Array[] = []
  #received = 0
  /** bytes asked for that did not come yet */
  #outstanding = 0

  constructor(manifest: Manifest, dummy: boolean) {
    this.#manifest = manifest
    this.#dummy = dummy
  }

  get outstanding(): number {
    return this.#outstanding
  }

  expect(index: number): void {
    this.#expected.push(index)
    this.#outstanding += pieceLength(this.#manifest, index)
  }

  /**
   * The piece that this frame makes whole, if it does.
   * @throws NetworkError `corrupt` where the provider breaks the protocol
   */
  add(frame: Frame): WholePiece | undefined {
    const index = this.#expected[this.#head]
    if (index === undefined) throw fault(`sent piece ${frame.piece}, which nobody asked for`)
    if (frame.piece !== index) throw fault(`sent piece ${frame.piece} where ${index} was next`)
    if (this.#dummy ? frame.data.length > 0 : frame.simulated > 0)
      throw fault(this.#dummy ? 'sent bytes in a simulated transfer' : 'sent a simulated frame among real ones')
    const bytes = this.#dummy ? frame.simulated : frame.data.length
    const length = pieceLength(this.#manifest, index)
    if (frame.offset !== this.#received || frame.offset % LEAF_SIZE !== 0)
      throw fault(`sent offset ${frame.offset} of piece ${index} where ${this.#received} was next`)
    if (bytes === 0) throw fault(`sent an empty frame of piece ${index}`)
    if (this.#received + bytes > length) throw fault(`sent more of piece ${index} than there is`)
    this.#received += bytes
    this.#outstanding -= bytes
    if (!this.#dummy) this.#parts.push(frame.data)
    if (this.#received < length) return undefined
    const whole = { index, parts: this.#parts, length }
    this.#parts = []
    this.#received = 0
    this.#next()
    return whole
  }

  #next(): void {
    this.#head++
    if (this.#head < 1024) return
    this.#expected.splice(0, this.#head)
    this.#head = 0
  }
}

function fault(what: string): NetworkError {
  return new NetworkError('corrupt', what)
}
