/** How a gRPC call ends: the codes that are made here, and what stands for them in HTTP/2. Pure. */
import { constants, type IncomingHttpHeaders } from 'node:http2';
import { status } from '@grpc/grpc-js';
import type { FrameProblem } from './frame.js';

export interface CallStatus {
  readonly code: status;
  readonly details: string;
}

/** Of a connection that went under a call. */
export const DROPPED: CallStatus = { code: status.UNAVAILABLE, details: 'Connection dropped' };

/** The status in trailers, or in headers that are all there is. */
export function statusFrom(headers: IncomingHttpHeaders, httpStatus: number | undefined): CallStatus {
  const code = headers['grpc-status'];
  if (typeof code === 'string') {
    const message = headers['grpc-message'];
    return { code: codeFrom(code), details: typeof message === 'string' ? decoded(message) : '' };
  }
  if (httpStatus === undefined || httpStatus === 200)
    return { code: status.UNKNOWN, details: 'No status information received' };
  return { code: codeOfHttp(httpStatus), details: `Received HTTP status code ${httpStatus}` };
}

function codeFrom(text: string): status {
  // Of an empty text Number makes 0, which is OK.
  const code = /^(0|[1-9]\d?)$/.test(text) ? Number(text) : -1;
  return isCode(code) ? code : status.UNKNOWN;
}

function isCode(code: number): code is status {
  return code in status;
}

/** The status of a stream that ended without one. */
function statusFromReset(reset: number): CallStatus {
  switch (reset) {
    case constants.NGHTTP2_REFUSED_STREAM:
      return { code: status.UNAVAILABLE, details: 'Stream refused by server' };
    case constants.NGHTTP2_CANCEL:
      return { code: status.CANCELLED, details: 'Call cancelled' };
    case constants.NGHTTP2_ENHANCE_YOUR_CALM:
      return { code: status.RESOURCE_EXHAUSTED, details: 'Bandwidth exhausted or memory limit exceeded' };
    case constants.NGHTTP2_INADEQUATE_SECURITY:
      return { code: status.PERMISSION_DENIED, details: 'Protocol not secure enough' };
    default:
      return { code: status.INTERNAL, details: `Received RST_STREAM with code ${reset}` };
  }
}

/** Of an answer that did not come from gRPC (doc/http-grpc-status-mapping.md). */
function codeOfHttp(answer: number): status {
  switch (answer) {
    case 400:
      return status.INTERNAL;
    case 401:
      return status.UNAUTHENTICATED;
    case 403:
      return status.PERMISSION_DENIED;
    case 404:
      return status.UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
      return status.UNAVAILABLE;
    default:
      return status.UNKNOWN;
  }
}

function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    // Not as it should be encoded: as it came is better than nothing.
    return message;
  }
}

/** The status of an answer that has such a problem. What is no answer of gRPC at all counts by its HTTP status. */
export function statusFromProblem({ kind, details }: FrameProblem, httpStatus: number | undefined): CallStatus {
  if (httpStatus !== undefined && httpStatus !== 200) return statusFrom({}, httpStatus);
  if (kind === 'too-large') return { code: status.RESOURCE_EXHAUSTED, details };
  return { code: kind === 'second' ? status.UNIMPLEMENTED : status.INTERNAL, details };
}

/** Of a call whose stream closed before any status came; `httpStatus` where headers came. */
export function statusFromClose(reset: number, httpStatus: number | undefined): CallStatus {
  if (reset !== constants.NGHTTP2_NO_ERROR) return statusFromReset(reset);
  if (httpStatus !== undefined && httpStatus !== 200) return statusFrom({}, httpStatus);
  return { code: status.INTERNAL, details: `Received RST_STREAM with code ${reset} (Call ended without gRPC status)` };
}
