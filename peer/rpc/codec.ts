import { isIP } from 'node:net'
import type { MethodDefinition } from '@grpc/proto-loader'
import { isErrorCode, NetworkError } from '../../common/errors.ts'
import { type ContentId, parsePeerId, printable } from '../../common/ids.ts'
import { HASH_SIZE, type Manifest } from '../../common/merkle.ts'
import { loadProto } from '../../common/rpc.ts'
import { FRAME_HEADROOM, type OutgoingFrame } from '../transfer/outgoing.ts'
import type { Contact, Frame, ManifestClaim } from '../transfer/source.ts'
import { bounded, boundedMethod } from './bounded.ts'
import { encodeFrame, readInPlace } from './frame-codec.ts'

/**
 * Wire ↔ domain for proto/files.proto and proto/transfer.proto. What a provider sends often is read by hand, all else by
 * the generated codec, within bounds.
 */

export interface WireManifest {
  content_id: Buffer
  size: number
  piece_size: number
  hashes: Buffer
}

export interface WireContact {
  peer: string
  host: string
  grpc_port: number
}

export interface WireWant {
  add: number[]
  remove: number[]
  credit: number
  /** absent: as before */
  rate?: number
}

export type TakerMessage =
  | { kind: 'open'; open: { content_id: Buffer; dummy: boolean; taker?: WireContact | null } }
  | { kind: 'want'; want: WireWant }
  | { kind: 'result'; result: { ok: boolean; code: string; message: string; bytes: number; simulated: boolean } }

export type ProviderMessage =
  | { kind: 'frame'; frame: Frame }
  | { kind: 'have'; have: { pieces: number[] } }
  | { kind: 'takers'; takers: { contacts: WireContact[] } }
  | { kind: 'abandoned'; abandoned: { piece: number } }
  | { kind: 'refusal'; refusal: { code: string; message: string } }
  | { kind: 'offer'; offer: { filename: string; manifest: WireManifest | null; dummy: boolean } }

/** What a provider writes: frames in the buffers that they were read into. */
export type ProviderOutput = { kind: 'outgoing'; frame: OutgoingFrame } | Exclude<ProviderMessage, { kind: 'frame' }>

export interface WireSmallContent {
  content_id: Buffer
  data: Buffer
  code: string
  message: string
}

export interface TransferService {
  GetManifest: MethodDefinition<{ content_id?: Buffer; filename?: string }, WireManifest>
  Fetch: MethodDefinition<TakerMessage, ProviderOutput, TakerMessage, ProviderMessage>
  Push: MethodDefinition<ProviderOutput, TakerMessage, ProviderMessage, TakerMessage>
  FetchSmall: MethodDefinition<{ content_ids: Buffer[] }, { contents: WireSmallContent[] }>
}

export interface FileService {
  Upload: MethodDefinition<{ filename: string; content: Buffer }, { ok: boolean; message: string }>
  Download: MethodDefinition<{ filename: string }, { ok: boolean; content: Buffer; message: string }>
}

const transferProto = loadProto('transfer.proto')
const filesProto = loadProto('files.proto')

/** Tags, lengths and numbers in a message, at most: twice those of the largest that is legal, and a few. */
const MOST = {
  /** a name, a manifest, a file */
  few: 64,
  /** 64 contacts, or an offer */
  provider: 1100,
  /** wants of 4,096 pieces that are no neighbours */
  taker: 32_768,
  /** 1,024 ids */
  smallRequest: 4096,
  /** 1,024 contents */
  smallAnswer: 20_480,
}

export const FILE_SERVICE = withinBounds(filesProto['fileservice.FileService'] as unknown as FileService)
export const TRANSFER_SERVICE = withFrames(transferProto['p2p.v1.Transfer'] as unknown as TransferService)

/** A provider's message other than a frame. */
export function encodeProvider(message: Exclude<ProviderOutput, { kind: 'outgoing' }>): Buffer {
  return TRANSFER_SERVICE.Fetch.responseSerialize(message)
}

function withinBounds({ Upload, Download }: FileService): FileService {
  return { Upload: boundedMethod(Upload, MOST.few, MOST.few), Download: boundedMethod(Download, MOST.few, MOST.few) }
}

function withFrames(generated: TransferService): TransferService {
  const { responseSerialize } = generated.Fetch
  const provider = bounded(generated.Fetch.responseDeserialize, MOST.provider)
  const takers = bounded(generated.Fetch.requestDeserialize, MOST.taker)
  const serialize = (message: ProviderOutput): Buffer =>
    message.kind === 'outgoing' ? encodeFrame(message.frame) : responseSerialize(message)
  const deserialize = (bytes: Buffer): ProviderMessage => {
    const read = readInPlace(bytes)
    if (read.kind === 'frame') return { kind: 'frame', frame: { ...read.frame, data: owned(read.frame.data) } }
    if (read.kind === 'have') return { kind: 'have', have: { pieces: read.pieces } }
    return checkedKind(provider(bytes))
  }
  const taker = (bytes: Buffer): TakerMessage => checkedKind(takers(bytes))
  return {
    GetManifest: boundedMethod(generated.GetManifest, MOST.few, MOST.few),
    FetchSmall: boundedMethod(generated.FetchSmall, MOST.smallRequest, MOST.smallAnswer),
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

/** Small messages are slices of memory that others use too, which could not be given to another thread. */
function owned(data: Uint8Array): Uint8Array {
  return data.buffer.byteLength - data.length <= 2 * FRAME_HEADROOM ? data : new Uint8Array(data)
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

/** @throws NetworkError `invalid` where it is no peer's contact; whether its host may be called is for the caller */
export function contactOfWire({ peer, host, grpc_port }: WireContact): Contact {
  if (grpc_port < 1 || grpc_port > 65_535) throw new NetworkError('invalid', 'a contact has a port')
  return { peer: parsePeerId(peer), host, grpcPort: grpc_port }
}

/** Contacts that are told of in one message, at most. */
const MAX_CONTACTS = 64

/** Those of a stranger's contacts that are contacts. */
export function contactsOfWire(contacts: readonly WireContact[]): Contact[] {
  return contacts.slice(0, MAX_CONTACTS).flatMap((contact) => {
    try {
      return isIP(contact.host) === 0 ? [] : contactOfWire(contact)
    } catch {
      return []
    }
  })
}

export function contactToWire({ peer, host, grpcPort }: Contact): WireContact {
  return { peer, host, grpc_port: grpcPort }
}

/** The error that a refusal or a failed result from `who` stands for. */
export function errorOfWire({ code, message }: { code: string; message: string }, who: string): NetworkError {
  return new NetworkError(isErrorCode(code) ? code : 'internal', printable(message || `${who} refused`, 1000), {
    peer: who,
  })
}
