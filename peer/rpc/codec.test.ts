import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { manifestOf } from '../../common/merkle.ts'
import { loadProto } from '../../common/rpc.ts'
import { FRAME_HEADROOM, type OutgoingFrame } from '../transfer/outgoing.ts'
import { contentIdOfWire, manifestOfWire, manifestToWire, type ProviderMessage, TRANSFER_SERVICE } from './codec.ts'
import { MAX_FRAME } from './frame-codec.ts'

const generated = (loadProto('transfer.proto')['p2p.v1.Transfer'] as unknown as typeof TRANSFER_SERVICE).Fetch
const { responseSerialize: encode, responseDeserialize: decode } = TRANSFER_SERVICE.Fetch
const generatedEncode = generated.responseSerialize as unknown as (message: object) => Buffer

function outgoing(
  piece: number,
  offset: number,
  data: Buffer,
  simulated = 0,
): { kind: 'outgoing'; frame: OutgoingFrame } {
  const buffer = Buffer.concat([Buffer.alloc(FRAME_HEADROOM, 0xff), data, Buffer.alloc(7, 0xff)])
  return { kind: 'outgoing', frame: { piece, offset, buffer, length: data.length, simulated } }
}

const uint32 = fc.nat(0xffff_ffff)
const data = fc.uint8Array({ maxLength: 40_000 }).map((bytes) => Buffer.from(bytes))

describe('a frame', () => {
  test('that we encode is what protobuf decodes', () => {
    fc.assert(
      fc.property(uint32, uint32, data, uint32, (piece, offset, data, simulated) => {
        const message = generated.responseDeserialize(encode(outgoing(piece, offset, data, simulated)))
        expect(message).toEqual({ kind: 'frame', frame: { piece, offset, data, simulated } })
      }),
    )
  })

  test('that protobuf encodes is what we decode', () => {
    fc.assert(
      fc.property(uint32, uint32, data, uint32, (piece, offset, data, simulated) => {
        const { frame } = decode(generatedEncode({ frame: { piece, offset, data, simulated } })) as { frame: object }
        expect(frame).toMatchObject({ piece, offset, simulated })
        expect(Buffer.from((frame as { data: Uint8Array }).data).equals(data)).toBe(true)
      }),
    )
  })

  test('is encoded in the buffer that it was read into, and decoded as a view of its message', () => {
    const message = outgoing(1, 2, Buffer.alloc(100_000, 5))
    const bytes = encode(message)
    expect(bytes.buffer).toBe(message.frame.buffer.buffer)
    const { frame } = decode(bytes) as Extract<ProviderMessage, { kind: 'frame' }>
    expect(frame.data.buffer).toBe(bytes.buffer)
  })

  test('that came in memory shared with others is copied, so that it can be given away', () => {
    const bytes = encode(outgoing(1, 2, Buffer.from('short')))
    const shared = Buffer.alloc(8192)
    const { frame } = decode(shared.subarray(10, 10 + bytes.copy(shared, 10))) as { frame: { data: Uint8Array } }
    expect(frame.data.buffer.byteLength).toBe(5)
    expect(Buffer.from(frame.data).toString()).toBe('short')
  })

  test('with fields of a later version is decoded all the same', () => {
    const later = Buffer.from([
      0x08, 7, 0x52, 2, 1, 2, 0x5d, 1, 2, 3, 4, 0x61, 1, 2, 3, 4, 5, 6, 7, 8, 0x68, 0x90, 1, 0x1a, 1, 9,
    ])
    const { frame } = decode(Buffer.concat([Buffer.from([0x0a, later.length]), later])) as { frame: object }
    expect(frame).toEqual({ piece: 7, offset: 0, simulated: 0, data: new Uint8Array([9]) })
  })

  test('in an unusual form is decoded as protobuf has it', () => {
    const [first, second] = [{ piece: 1 }, { offset: 16384 }].map((frame) => generatedEncode({ frame }))
    expect(decode(Buffer.concat([first!, second!]))).toMatchObject({ kind: 'frame', frame: { offset: 16384 } })
  })

  test.each(['before it', 'behind it'])('is one with whatever else its message holds %s', (where) => {
    const frame = encode(outgoing(1, 16_384, Buffer.from('abc')))
    for (const other of [{ have: { pieces: [3, 4] } }, { offer: { filename: 'a' } }, { frame: { piece: 2 } }]) {
      const parts = [generatedEncode(other), frame, Buffer.from([0x98, 0x06, 1])]
      if (where === 'behind it') parts.reverse()
      expect(decode(Buffer.concat(parts)).kind).toBe('frame')
    }
  })

  test('larger than the bound is refused', () => {
    const frame = { data: Buffer.alloc(MAX_FRAME + 1) }
    expect(() => decode(generatedEncode({ frame }))).toThrow(/are the most/)
  })

  test('of random bytes is an error or a message, never a crash or a hang', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.boolean(), (bytes, framed) => {
        const message = Buffer.from(framed ? [0x0a, bytes.length, ...bytes] : bytes)
        let decoded: ProviderMessage | undefined
        try {
          decoded = decode(message)
        } catch (error) {
          expect(error).toBeInstanceOf(Error)
        }
        if (decoded) expect(decoded.kind).toMatch(/^(frame|have|takers|abandoned|refusal|offer)$/)
      }),
      { numRuns: 2000, examples: [[Uint8Array.of(0x20, 0), false]] },
    )
  })
})

test('a manifest survives the wire', () => {
  const manifest = manifestOf(Buffer.alloc(600_000, 3))
  const { responseSerialize, responseDeserialize } = TRANSFER_SERVICE.GetManifest
  const wire = responseDeserialize(responseSerialize(manifestToWire(manifest)))
  expect(contentIdOfWire(wire.content_id)).toBe(manifest.id)
  expect(manifestOfWire(wire)).toEqual({ size: manifest.size, pieceSize: manifest.pieceSize, hashes: manifest.hashes })
})

test('a content id of the wrong length is refused', () => {
  expect(() => contentIdOfWire(Buffer.alloc(31))).toThrow(/32 bytes/)
})
