import { createRequire } from 'node:module'
import type { MethodDefinition } from '@grpc/proto-loader'
import { NetworkError } from '../../common/errors.ts'

/**
 * A bound on what the generated codec makes of a message. Two bytes can stand for an empty object of two hundred, so that
 * a bound on bytes is none on memory. It is kept while the codec reads, by the codec's own reader: whoever counted ahead
 * would have to read every malformed message exactly as the codec does.
 */

interface Reader {
  uint32(): number
}

// Of the very copy that the loader uses, which one of this project's own might not be: its decoders know no other reader.
const requireAsLoader = createRequire(createRequire(import.meta.url).resolve('@grpc/proto-loader'))
const { BufferReader } = requireAsLoader('protobufjs') as { BufferReader: new (bytes: Buffer) => Reader }

/** Each tag, each length and each number in a list is read as one of these. */
class BoundedReader extends BufferReader {
  #left: number

  constructor(bytes: Buffer, most: number) {
    super(bytes)
    this.#left = most
  }

  override uint32(): number {
    if (--this.#left < 0) throw new NetworkError('corrupt', 'sent a message of too many parts')
    return super.uint32()
  }
}

/**
 * @param deserialize of the generated codec
 * @param most tags, lengths and numbers in a message
 * @returns the same, but it throws NetworkError `corrupt` at the first one more, and where the codec can't read it
 */
export function bounded<T>(deserialize: (bytes: Buffer) => T, most: number): (bytes: Buffer) => T {
  return (bytes) => {
    try {
      return deserialize(new BoundedReader(bytes, most) as unknown as Buffer)
    } catch (error) {
      throw error instanceof NetworkError ? error : new NetworkError('corrupt', (error as Error).message, {}, error)
    }
  }
}

/** A method whose messages are read within bounds. */
export function boundedMethod<Request, Answer>(
  method: MethodDefinition<Request, Answer>,
  request: number,
  answer: number,
): MethodDefinition<Request, Answer> {
  return {
    ...method,
    requestDeserialize: bounded(method.requestDeserialize, request),
    responseDeserialize: bounded(method.responseDeserialize, answer),
  }
}
