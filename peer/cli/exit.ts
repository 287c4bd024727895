import type { NetworkError } from '../../common/errors.ts'

/** What a script learns from the exit code. */
export const EXIT = { done: 0, failed: 1, usage: 2, notFound: 3, unreachable: 4, unverified: 5 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

export function exitCodeOf({ code, details }: NetworkError): ExitCode {
  switch (code) {
    case 'invalid':
      return EXIT.usage
    case 'not_found':
      return EXIT.notFound
    case 'unavailable':
      return details.reason === 'disk_full' ? EXIT.failed : EXIT.unreachable
    case 'corrupt':
      // An answer that is no answer of this network says nothing about a file's bytes.
      return details.reason === 'unknown_answer' ? EXIT.failed : EXIT.unverified
    case 'unauthorized':
    case 'forbidden':
    case 'conflict':
    case 'too_large':
    case 'limited':
    case 'cancelled':
    case 'internal':
      return EXIT.failed
  }
}
