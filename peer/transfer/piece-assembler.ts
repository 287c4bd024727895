import { NetworkError } from '../../common/errors.ts'
import { LEAF_SIZE, type Manifest, pieceCount, pieceLength } from '../../common/merkle.ts'
import { piecesOf } from './runs.ts'
import type { Frame, Want } from './source.ts'

export interface WholePiece {
  readonly index: number
  /** its bytes in order; none in a dummy conversation */
  readonly parts: Uint8Array[]
  /** bytes */
  readonly length: number
}

/** What a frame does: begins a piece, makes one whole, both or neither. */
export interface Added {
  readonly begun: boolean
  readonly whole: WholePiece | undefined
}

/**
 * Puts one provider's frames together to pieces, and holds the provider to the protocol: only pieces that were wanted,
 * no more than may be begun, one after the other, frames contiguous, nothing too much. Whether the bytes are right is
 * for the hash.
 */
export class PieceAssembler {
  #manifest: Manifest
  #dummy: boolean
  /** how often a piece was wanted and has not come; what was taken back may be on its way, and so is let in */
  #wanted: Uint16Array
  /** how often a piece was taken back for which it was not given up yet */
  #takenBack: Uint16Array
  #credit = 0
  #piece = -1
  #parts: Uint8Array[] = []
  #received = 0

  constructor(manifest: Manifest, dummy: boolean) {
    this.#manifest = manifest
    this.#dummy = dummy
    const count = pieceCount(manifest.size, manifest.pieceSize)
    this.#wanted = new Uint16Array(count)
    this.#takenBack = new Uint16Array(count)
  }

  /** To be told before the provider is. */
  want({ add, remove, credit }: Want): void {
    for (const piece of piecesOf(add ?? [])) this.#wanted[piece]!++
    for (const piece of piecesOf(remove ?? [])) this.#takenBack[piece]!++
    this.#credit += credit ?? 0
  }

  /** @throws NetworkError `corrupt` where the provider breaks the protocol */
  add(frame: Frame): Added {
    if (this.#dummy ? frame.data.length > 0 : frame.simulated > 0)
      throw fault(this.#dummy ? 'sent bytes in a simulated transfer' : 'sent a simulated frame among real ones')
    const begun = this.#piece < 0
    if (begun) this.#begin(frame.piece)
    const index = this.#piece
    if (frame.piece !== index) throw fault(`sent piece ${frame.piece} in the middle of ${index}`)
    const bytes = this.#dummy ? frame.simulated : frame.data.length
    const length = pieceLength(this.#manifest, index)
    if (frame.offset !== this.#received || frame.offset % LEAF_SIZE !== 0)
      throw fault(`sent offset ${frame.offset} of piece ${index} where ${this.#received} was next`)
    if (bytes === 0) throw fault(`sent an empty frame of piece ${index}`)
    if (this.#received + bytes > length) throw fault(`sent more of piece ${index} than there is`)
    this.#received += bytes
    if (!this.#dummy) this.#parts.push(frame.data)
    if (this.#received < length) return { begun, whole: undefined }
    const whole = { index, parts: this.#parts, length }
    this.#end()
    return { begun, whole }
  }

  /**
   * The provider gives up the piece under way, as it was told to: else it could keep a taker busy for good.
   * @throws NetworkError `corrupt` where it is not under way, or was not taken back
   */
  abandon(piece: number): void {
    if (piece !== this.#piece) throw fault(`gave up piece ${piece}, which it had not begun`)
    if (this.#takenBack[piece] === 0) throw fault(`gave up piece ${piece}, which was not taken back`)
    this.#takenBack[piece]!--
    this.#end()
  }

  #begin(piece: number): void {
    if (!this.#wanted[piece]) throw fault(`sent piece ${piece}, which nobody asked for`)
    if (this.#credit === 0) throw fault(`sent piece ${piece} before it was its turn`)
    this.#credit--
    this.#wanted[piece]!--
    this.#piece = piece
  }

  #end(): void {
    this.#piece = -1
    this.#parts = []
    this.#received = 0
  }
}

function fault(what: string): NetworkError {
  return new NetworkError('corrupt', what)
}
