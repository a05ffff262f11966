SELECT
    variants.product_id,
    variants.variant_id,
    variants.title,
    variants.sku,
    variants.price,
    variants.inventory_quantity,
    variants.backorders,
    variants.visibility,
    variants.position
FROM variants
WHERE variants.deleted_at IS NULL
