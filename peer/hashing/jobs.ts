import type { ErrorBody } from '../../common/errors.ts'

/** What the hasher and its workers say to each other. A file descriptor is valid in every thread of the process. */

/** A run of whole pieces of an open file (its last piece may be short). */
export interface PieceRange {
  readonly fd: number
  /** bytes, from the start of the file */
  readonly position: number
  /** bytes */
  readonly length: number
  readonly pieceSize: number
  /** whether the file has no other piece (see pieceHash) */
  readonly onlyPiece: boolean
}

export interface ReadRequest {
  readonly job: number
  readonly kind: 'read'
  readonly ranges: readonly PieceRange[]
  /** One shared number: not 0 once nobody wants the answer any more. */
  readonly cancelled: Int32Array | undefined
}

export interface CommitRequest {
  readonly job: number
  readonly kind: 'commit'
  readonly fd: number
  /** where the piece begins in the file, bytes */
  readonly position: number
  readonly pieceSize: number
  readonly onlyPiece: boolean
  /** the hash that the bytes must have */
  readonly expected: Uint8Array
  /** the bytes of the piece, in order */
  readonly parts: Uint8Array[]
}

export type HashRequest = ReadRequest | CommitRequest

/** The piece hashes of one range: fewer than it has pieces where the file ended early or the job was cancelled. */
export type RangeResult = Uint8Array | ErrorBody

export type HashReply =
  | { readonly job: number; readonly kind: 'read'; readonly results: readonly RangeResult[] }
  | { readonly job: number; readonly kind: 'commit'; readonly result: boolean | ErrorBody }
