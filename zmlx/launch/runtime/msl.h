// The Metal Shading Language as kernels see it: types, vectors, maths, integers and MLX's prelude.
//
// simd functions, atomics and barriers depend on how threads are run; host_*.h and cuda_*.h add them to what msl_sync.h
// declares.
#pragma once

#include "msl_config.h"
#include "msl_traits.h"
#include "msl_types.h"
#include "msl_vector.h"
#include "msl_overload.h"
#include "msl_syntax.h"
#include "msl_math.h"
#include "msl_relational.h"
#include "msl_geometric.h"
#include "msl_integer.h"
#include "msl_pack.h"
#include "mlx_prelude.h"
