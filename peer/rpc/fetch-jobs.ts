import type { ErrorBody } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import type { Http2Target } from '../../common/rpc.ts'
import type { ProviderEvent, Want } from '../transfer/source.ts'
import type { Headers } from './fetch-hpack.ts'
import type { StreamEnd } from './fetch-http2.ts'

/** What the main thread and the threads that fetch say to each other. */

/** A conversation begins. A file descriptor is valid in every thread of the process. */
export interface OpenJob {
  readonly target: Http2Target
  /** of the gRPC method */
  readonly path: string
  readonly content: ContentId
  readonly size: number
  readonly pieceSize: number
  /** 32 bytes a piece, shared */
  readonly hashes: SharedArrayBuffer
  readonly dummy: boolean
  readonly fd: number
  /** the first message, encoded */
  readonly message: Uint8Array
}

export type ToThread =
  | { readonly kind: 'open'; readonly id: number; readonly job: OpenJob }
  /** `message` says the same to the provider */
  | {
      readonly kind: 'want'
      readonly id: number
      readonly change: Pick<Want, 'add' | 'remove' | 'credit'>
      readonly message: Uint8Array
    }
  | { readonly kind: 'close'; readonly id: number }
  /** so much of what was told is used up; see `costOf` */
  | { readonly kind: 'used'; readonly id: number; readonly cost: number }

export type FetchEvent =
  | Exclude<ProviderEvent, { kind: 'takers' }>
  /** encoded, for the generated codec, which has no place in a thread */
  | { readonly kind: 'message'; readonly message: Uint8Array }

/** Why a conversation is over. Nothing touches its file descriptor any more. */
export type FetchEnd =
  | { readonly kind: 'closed' }
  /** with the last headers that came, if any did */
  | { readonly kind: 'stream'; readonly end: StreamEnd; readonly headers: Headers }
  | { readonly kind: 'failed'; readonly body: ErrorBody }
  /** this peer's disk */
  | { readonly kind: 'local'; readonly body: ErrorBody }
  | { readonly kind: 'simulates' }

export interface FromThread {
  readonly id: number
  readonly events: readonly FetchEvent[]
  readonly end?: FetchEnd
}

/** What an event counts while it waits to be used, so that a provider that talks without end is read no further. */
export function costOf(event: FetchEvent): number {
  if (event.kind === 'message') return 1 + Math.ceil(event.message.length / 1024)
  return event.kind === 'have' ? 1 + Math.ceil(event.pieces.length / 256) : 1
}
