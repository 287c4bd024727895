/** Every failure that may cross a boundary is a NetworkError; each protocol maps its code through one table. */
const ERROR_CODES = [
  'invalid',
  'unauthorized',
  'forbidden',
  'not_found',
  'conflict',
  'too_large',
  'limited',
  'corrupt',
  'unavailable',
  'cancelled',
  'internal',
] as const
export type ErrorCode = (typeof ERROR_CODES)[number]

/** HTTP status of each code. */
export const HTTP_STATUS = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  limited: 429,
  corrupt: 502,
  unavailable: 503,
  cancelled: 499,
  internal: 500,
} as const satisfies Record<ErrorCode, number>

/** gRPC status number of each code (google.rpc.Code). */
export const GRPC_STATUS = {
  invalid: 3,
  unauthorized: 16,
  forbidden: 7,
  not_found: 5,
  conflict: 9,
  too_large: 11,
  limited: 8,
  corrupt: 15,
  unavailable: 14,
  cancelled: 1,
  internal: 13,
} as const satisfies Record<ErrorCode, number>

const CODE_OF_GRPC = new Map<number, ErrorCode>([
  ...Object.entries(GRPC_STATUS).map(([code, status]) => [status, code as ErrorCode] as const),
  [4, 'unavailable'], // DEADLINE_EXCEEDED
  [6, 'conflict'], // ALREADY_EXISTS
  [12, 'invalid'], // UNIMPLEMENTED
])

export type ErrorDetails = Readonly<Record<string, unknown>>

/** What a NetworkError looks like on the wire: `{error: {code, message, …details}}`. */
export interface ErrorBody {
  error: { code: ErrorCode; message: string } & Record<string, unknown>
}

export class NetworkError extends Error {
  override readonly name = 'NetworkError'
  readonly code: ErrorCode
  readonly details: ErrorDetails

  /** `message` says what happened, to what, and where it helps what to do next: people read it. */
  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.details = details
  }

  toBody(): ErrorBody {
    return { error: { ...this.details, code: this.code, message: this.message } }
  }

  /** The typed error that an error body from the wire stands for; undefined where the body is none. */
  static fromBody(body: unknown): NetworkError | undefined {
    if (typeof body !== 'object' || body === null || !('error' in body)) return undefined
    const error = body.error
    if (typeof error !== 'object' || error === null) return undefined
    const { code, message, ...details } = error as Record<string, unknown>
    if (!isErrorCode(code) || typeof message !== 'string') return undefined
    return new NetworkError(code, message.slice(0, 2000), details)
  }

  static codeOfGrpc(status: number): ErrorCode {
    return CODE_OF_GRPC.get(status) ?? 'internal'
  }
}

/** Whether a value from the wire is a code of the table. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return (ERROR_CODES as readonly unknown[]).includes(value)
}

/** The NetworkError that `error` is, or the one that best describes it: system errors by their errno, aborts as cancelled. */
export function asNetworkError(error: unknown): NetworkError {
  if (error instanceof NetworkError) return error
  if (!(error instanceof Error)) return new NetworkError('internal', String(error))
  if (error.name === 'AbortError') return new NetworkError('cancelled', 'cancelled', {}, error)
  if (error.name === 'TimeoutError') return new NetworkError('unavailable', 'no answer in time', {}, error)
  switch (errnoOf(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new NetworkError(
        'unavailable',
        'the disk is full: free some space and try again',
        { reason: 'disk_full' },
        error,
      )
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new NetworkError('forbidden', `the file system refuses access: ${error.message}`, {}, error)
    case 'ENOENT':
      return new NetworkError('not_found', 'no such file', {}, error)
    default:
      return new NetworkError('internal', error.message, {}, error)
  }
}

/** The system error name (`ENOENT`, …) of an error, where it has one. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}
