import type { MethodDefinition } from '@grpc/proto-loader'
import { isErrorCode, NetworkError } from '../../common/errors.ts'
import { type ContentId, printable } from '../../common/ids.ts'
import { HASH_SIZE, type Manifest } from '../../common/merkle.ts'
import { loadProto } from '../../common/rpc.ts'
import type { Frame, ManifestClaim } from '../transfer/source.ts'
import type { OutgoingFrame } from '../transfer/uploader.ts'
import { checkedFrame, decodeFrame, encodeFrame } from './frame-codec.ts'

/** Wire ↔ domain for proto/files.proto and proto/transfer.proto. Frames go by hand, all else through the generated codec. */

export interface WireManifest {
  content_id: Buffer
  size: number
  piece_size: number
  hashes: Buffer
}

export type TakerMessage =
  | { kind: 'open'; open: { content_id: Buffer; dummy: boolean } }
  | { kind: 'request'; request: { first: number; count: number } }
  | { kind: 'result'; result: { ok: boolean; code: string; message: string; bytes: number; simulated: boolean } }

export type ProviderMessage =
  | { kind: 'frame'; frame: Frame }
  | { kind: 'refusal'; refusal: { code: string; message: string } }
  | { kind: 'offer'; offer: { filename: string; manifest: WireManifest | null; dummy: boolean } }

/** What a provider writes: frames in the buffers that they were read into. */
export type ProviderOutput = { kind: 'outgoing'; frame: OutgoingFrame } | Exclude<ProviderMessage, { kind: 'frame' }>

export interface TransferService {
  GetManifest: MethodDefinition<{ content_id?: Buffer; filename?: string }, WireManifest>
  Fetch: MethodDefinition<TakerMessage, ProviderOutput, TakerMessage, ProviderMessage>
  Push: MethodDefinition<ProviderOutput, TakerMessage, ProviderMessage, TakerMessage>
}

export interface FileService {
  Upload: MethodDefinition<{ filename: string; content: Buffer }, { ok: boolean; message: string }>
  Download: MethodDefinition<{ filename: string }, { ok: boolean; content: Buffer; message: string }>
}

const transferProto = loadProto('transfer.proto')
const filesProto = loadProto('files.proto')

/** Both packages, as reflection tells them to others. */
export const REFLECTED = { ...filesProto, ...transferProto }

export const FILE_SERVICE = filesProto['fileservice.FileService'] as unknown as FileService
export const TRANSFER_SERVICE = withFrames(transferProto['p2p.v1.Transfer'] as unknown as TransferService)

function withFrames(generated: TransferService): TransferService {
  const { responseSerialize, responseDeserialize } = generated.Fetch
  const serialize = (message: ProviderOutput): Buffer =>
    message.kind === 'outgoing' ? encodeFrame(message.frame) : responseSerialize(message)
  const deserialize = (bytes: Buffer): ProviderMessage => {
    const frame = decodeFrame(bytes)
    return frame ? { kind: 'frame', frame } : checkedProvider(responseDeserialize(bytes))
  }
  const taker = (bytes: Buffer): TakerMessage => checkedKind(generated.Fetch.requestDeserialize(bytes))
  return {
    GetManifest: generated.GetManifest,
    Fetch: {
      ...generated.Fetch,
      requestDeserialize: taker,
      responseSerialize: serialize,
      responseDeserialize: deserialize,
    },
    Push: {
      ...generated.Push,
      requestSerialize: serialize,
      requestDeserialize: deserialize,
      responseDeserialize: taker,
    },
  }
}

function checkedKind<T extends { kind: string }>(message: T): T {
  if (message.kind === undefined) throw new Error('an empty message')
  return message
}

function checkedProvider(message: ProviderMessage): ProviderMessage {
  if (checkedKind(message).kind !== 'frame') return message
  const { piece, offset, data, simulated } = (message as { frame: Frame }).frame
  return { kind: 'frame', frame: checkedFrame(piece, offset, data, simulated) }
}

/** @throws NetworkError `invalid` */
export function contentIdOfWire(bytes: Uint8Array): ContentId {
  if (bytes.length !== HASH_SIZE) throw new NetworkError('invalid', 'a content id has 32 bytes')
  return Buffer.from(bytes).toString('hex') as ContentId
}

export function contentIdToWire(id: ContentId): Buffer {
  return Buffer.from(id, 'hex')
}

export function manifestToWire({ id, size, pieceSize, hashes }: Manifest): WireManifest {
  return { content_id: contentIdToWire(id), size, piece_size: pieceSize, hashes }
}

export function manifestOfWire({ size, piece_size, hashes }: WireManifest): ManifestClaim {
  return { size, pieceSize: piece_size, hashes }
}

/** The error that a refusal or a failed result from `who` stands for. */
export function errorOfWire({ code, message }: { code: string; message: string }, who: string): NetworkError {
  return new NetworkError(isErrorCode(code) ? code : 'internal', printable(message || `${who} refused`, 1000), {
    peer: who,
  })
}
